//! One client for each mount, which all files of the mount share.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use homi_client::{Client, ClientError, Fallback, ServedBy};
use rustix::fs::{AtFlags, StatxFlags, statx};

/// By the number of the mount.
static CLIENTS: LazyLock<Mutex<HashMap<u64, Arc<Client>>>> = LazyLock::new(Mutex::default);

/// A client of the mount that an open file lies on.
pub(crate) fn client_of(file: impl AsFd, fallback: Fallback) -> Result<Arc<Client>, ClientError> {
    let stat = statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map_err(|error| {
        ClientError::System { action: "find the mount of the file", source: error.into() }
    })?;
    // Those who may fall back and those who may not have sessions of their own.
    let key = stat.stx_mnt_id << 1 | u64::from(fallback == Fallback::Pread);
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(client) = clients.get(&key).filter(|client| client.is_alive()) {
        return Ok(Arc::clone(client));
    }
    // Those whose mount is gone, or that a fork has from its parent, serve nobody here any more.
    clients.retain(|_, client| client.is_alive());
    let client = Arc::new(Client::of_file(file, fallback)?);
    // Without queues there is nothing worth keeping, and there may be some next time.
    if client.served_by() == ServedBy::Queues {
        clients.insert(key, Arc::clone(&client));
    }
    Ok(client)
}
