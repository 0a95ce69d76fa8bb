//! What clients did: one account for each, with its queues and its files; what is gone is kept as a sum.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine_controller::tally::{Tally, TallySum};
use homifs_core::Caller;
use parking_lot::Mutex;

/// The accounts of all clients of a mount.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    living: BTreeMap<u64, Arc<Account>>,
    gone: TallySum,
}

/// What one client did.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) client: u64,
    pub(crate) uid: u32,
    pub(crate) pid: u32,
    /// By number, from 1 on.
    queues: Mutex<Vec<Arc<Tally>>>,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    open: BTreeMap<u32, Arc<FileTally>>,
    closed: TallySum,
}

/// What was done on one open file, by all who work on it.
#[derive(Debug)]
pub(crate) struct FileTally {
    inode: u64,
    /// One for each worker that came by.
    shards: Mutex<Vec<Arc<Tally>>>,
}

/// What one client did, at one moment.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) client: u64,
    pub(crate) uid: u32,
    pub(crate) pid: u32,
    /// By number, from 1 on. All commands of a client are some queue's.
    pub(crate) queues: Vec<TallySum>,
    /// Number, inode, sum.
    pub(crate) files: Vec<(u32, u64, TallySum)>,
    /// Of files that it closed.
    pub(crate) closed: TallySum,
}

impl Ledger {
    /// Opens an account for a client that came in.
    pub(crate) fn open(&self, client: u64, caller: &Caller) -> Arc<Account> {
        let account = Arc::new(Account {
            client,
            uid: caller.uid,
            pid: caller.pid,
            queues: Mutex::default(),
            files: Mutex::default(),
        });
        self.books.lock().living.insert(client, Arc::clone(&account));
        account
    }

    /// Closes the account of a client whose queues are gone. Nobody sees its commands twice, or not at all.
    pub(crate) fn close(&self, client: u64) {
        let mut books = self.books.lock();
        if let Some(account) = books.living.remove(&client) {
            account.queues.lock().iter().for_each(|queue| books.gone.add(&queue.sum()));
        }
    }

    /// What every client did, and what those did that are gone.
    pub(crate) fn statements(&self) -> (Vec<Statement>, TallySum) {
        let books = self.books.lock();
        (books.living.values().map(|account| account.statement()).collect(), books.gone.clone())
    }
}

impl Account {
    /// Takes in the next queue pair.
    pub(crate) fn add_queue(&self, tally: Arc<Tally>) {
        self.queues.lock().push(tally);
    }

    /// Takes in a file that was opened.
    pub(crate) fn add_file(&self, number: u32, file: Arc<FileTally>) {
        self.files.lock().open.insert(number, file);
    }

    /// Adds a file that is closed to those that were.
    pub(crate) fn close_file(&self, number: u32) {
        let mut files = self.files.lock();
        if let Some(file) = files.open.remove(&number) {
            files.closed.add(&file.sum());
        }
    }

    fn statement(&self) -> Statement {
        let files = self.files.lock();
        Statement {
            client: self.client,
            uid: self.uid,
            pid: self.pid,
            queues: self.queues.lock().iter().map(|queue| queue.sum()).collect(),
            files: files.open.iter().map(|(&number, file)| (number, file.inode, file.sum())).collect(),
            closed: files.closed.clone(),
        }
    }
}

impl FileTally {
    pub(crate) fn new(inode: u64) -> Arc<Self> {
        Arc::new(Self { inode, shards: Mutex::default() })
    }

    /// A tally for one more worker.
    pub(crate) fn shard(&self) -> Arc<Tally> {
        let shard = Arc::new(Tally::default());
        self.shards.lock().push(Arc::clone(&shard));
        shard
    }

    fn sum(&self) -> TallySum {
        let mut sum = TallySum::default();
        self.shards.lock().iter().for_each(|shard| sum.add(&shard.sum()));
        sum
    }
}
