//! What lies below a writable mount, in the kernel's place: files that keep whoever uses them waiting until a gate opens.

use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::time::Duration;

use extents_core::{ExtentMap, Ino};
use homifs_core::{Caller, FsError, Homifs, Lease, Leases, Result, Standing, WritableFile};
use homifs_options::Remount;

/// Holds up who comes by until it is opened.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        self.state.lock().unwrap().0 = true;
        self.changed.notify_all();
    }

    /// Waits until so many have come to it.
    pub(crate) fn wait_for(&self, count: usize) {
        let state = self.state.lock().unwrap();
        let limit = Duration::from_secs(20);
        let (state, _) = self.changed.wait_timeout_while(state, limit, |state| state.1 < count).unwrap();
        assert!(state.1 >= count, "{} came to the gate, not {count}", state.1);
    }

    pub(crate) fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.0).unwrap());
    }
}

/// Files below a mount.
#[derive(Debug, Default)]
pub(crate) struct Below {
    pub(crate) gate: Arc<Gate>,
    homifs: OnceLock<Weak<Homifs>>,
}

impl Below {
    /// Goes below a mount.
    pub(crate) fn put(self, homifs: &Arc<Homifs>) -> Arc<Gate> {
        let gate = Arc::clone(&self.gate);
        self.homifs.set(Arc::downgrade(homifs)).unwrap();
        homifs.lease_by(Arc::new(self));
        gate
    }
}

#[derive(Debug)]
struct Kept;

impl Lease for Kept {
    fn is_recalled(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct SlowFile(Arc<Gate>);

impl WritableFile for SlowFile {
    fn size(&self) -> u64 {
        64 << 10
    }

    fn read(&self, _offset: u64, target: &mut [u8]) -> Result<usize> {
        self.0.pass();
        Ok(target.len())
    }

    fn write(&self, _offset: u64, _bytes: &[u8]) -> Result<()> {
        self.0.pass();
        Ok(())
    }

    fn zero(&self, _offset: u64, _length: u64, _unmap: bool) -> Result<()> {
        self.0.pass();
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.0.pass();
        Ok(())
    }
}

impl Leases for Below {
    fn lease(&self, ino: Ino) -> Result<(Arc<ExtentMap>, Arc<dyn Lease>)> {
        let homifs = self.homifs.get().and_then(Weak::upgrade).ok_or(FsError::NotSupported)?;
        Ok((Arc::new(homifs.volume().extents(ino)?), Arc::new(Kept)))
    }

    fn open_for_writing(&self, _ino: Ino, _caller: &Caller) -> Result<(Arc<dyn WritableFile>, u64)> {
        Ok((Arc::new(SlowFile(Arc::clone(&self.gate))), 1))
    }

    fn standing(&self, _ino: Ino) -> Result<Standing> {
        Err(FsError::NotSupported)
    }

    fn remount(&self, _asked: &Remount) -> Result<()> {
        Err(FsError::NotSupported)
    }

    fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        Vec::new()
    }
}
