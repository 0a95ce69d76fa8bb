//! What happens when memory that somebody else handed over goes away.
//!
//! A file that is mapped can be made shorter by whoever else has it; touching what is gone raises SIGBUS, which would
//! end the process for the sake of one bad client. The handler here puts zeroed memory of our own in the place of the
//! page that is gone, marks the region as damaged, and lets the access happen. Faults anywhere else are passed on to
//! whatever was there before.

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::Access;

/// Most regions of others that a process can map at a time; a handler cannot allocate.
const MOST: usize = 1 << 16;
/// How many places are made at a time.
const CHUNK: usize = 1 << 8;

/// A range of addresses that may fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched {
    pub(crate) start: usize,
    pub(crate) length: usize,
    pub(crate) access: Access,
    /// What the kernel maps and takes away at a time: the page size, of huge pages theirs.
    pub(crate) page: usize,
}

/// A place in the table of watched ranges.
///
/// `version` is odd while the place changes, so that the handler, which cannot take a lock, never uses half of one
/// range and half of another.
struct Place {
    version: AtomicU64,
    start: AtomicUsize,
    /// Zero where the place is free.
    length: AtomicUsize,
    page: AtomicUsize,
    writable: AtomicBool,
    damaged: AtomicBool,
}

/// Places are only ever added, so that the handler can walk them at any moment.
static CHUNKS: [AtomicPtr<Place>; MOST / CHUNK] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; MOST / CHUNK];
static CHANGES: Mutex<()> = Mutex::new(());
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Keeps a range watched until it is dropped.
pub(crate) struct Guard {
    place: &'static Place,
}

impl Guard {
    /// Watches a range from now on.
    ///
    /// # Errors
    /// Where too many are watched already, or the handler cannot be set.
    pub(crate) fn watch(range: Watched) -> io::Result<Self> {
        let _alone = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
        install()?;
        let place = free_place().ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
        place.change(|place| {
            place.start.store(range.start, Ordering::Relaxed);
            place.length.store(range.length, Ordering::Relaxed);
            place.page.store(range.page, Ordering::Relaxed);
            place.writable.store(range.access == Access::ReadWrite, Ordering::Relaxed);
            place.damaged.store(false, Ordering::Relaxed);
        });
        Ok(Self { place })
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.place.damaged.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _alone = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
        self.place.change(|place| place.length.store(0, Ordering::Relaxed));
    }
}

impl Place {
    fn change(&self, change: impl FnOnce(&Self)) {
        self.version.fetch_add(1, Ordering::AcqRel);
        change(self);
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether `address` lies within the range, and if so whether that is writable and how large its pages are.
    fn covers(&self, address: usize) -> Option<(bool, usize)> {
        let version = self.version.load(Ordering::Acquire);
        let start = self.start.load(Ordering::Relaxed);
        let length = self.length.load(Ordering::Relaxed);
        let writable = self.writable.load(Ordering::Relaxed);
        let size = self.page.load(Ordering::Relaxed);
        std::sync::atomic::fence(Ordering::Acquire);
        let whole = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        (whole && address.wrapping_sub(start) < length).then_some((writable, size))
    }
}

fn places() -> impl Iterator<Item = &'static Place> {
    let chunks =
        CHUNKS.iter().map(|chunk| chunk.load(Ordering::Acquire)).take_while(|chunk| !chunk.is_null());
    // SAFETY: A chunk that was stored is `CHUNK` places that are never freed.
    chunks.flat_map(|chunk| unsafe { std::slice::from_raw_parts(chunk, CHUNK) })
}

/// A place that is free, made where there is none. Called with `CHANGES` held.
fn free_place() -> Option<&'static Place> {
    let free = |place: &&Place| place.length.load(Ordering::Relaxed) == 0;
    if let Some(place) = places().find(free) {
        return Some(place);
    }
    let next = CHUNKS.iter().find(|chunk| chunk.load(Ordering::Relaxed).is_null())?;
    let fresh = (0..CHUNK).map(|_| Place {
        version: AtomicU64::new(0),
        start: AtomicUsize::new(0),
        length: AtomicUsize::new(0),
        page: AtomicUsize::new(0),
        writable: AtomicBool::new(false),
        damaged: AtomicBool::new(false),
    });
    next.store(Vec::leak(fresh.collect()).as_mut_ptr(), Ordering::Release);
    places().find(free)
}

#[allow(clippy::as_conversions, reason = "sigaction(2) takes the address of a function as a number")]
fn install() -> io::Result<()> {
    if BEFORE.get().is_some() {
        return Ok(());
    }
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: The action is all zeros but for what is set; the handler touches nothing but atomics, mmap(2) and
    // errno, and stays for as long as the process lives.
    let outcome = unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_fault;
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        libc::sigaction(libc::SIGBUS, &raw const action, before.as_mut_ptr())
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: sigaction(2) filled it, or left it as zeros, which is the default action.
    let _ = BEFORE.set(unsafe { before.assume_init() });
    Ok(())
}

extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: The kernel hands a valid siginfo to a handler that was set with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() }.addr();
    for place in places() {
        let Some((writable, size)) = place.covers(address) else { continue };
        place.damaged.store(true, Ordering::Relaxed);
        let page = address & !(size - 1);
        let access = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: The page belongs to a mapping that a region holds, whose contents are gone; errno is kept, since
        // what was interrupted may be looking at it.
        unsafe {
            let errno = *libc::__errno_location();
            let at = std::ptr::without_provenance_mut(page);
            let mapped = libc::mmap(at, size, access, flags, -1, 0);
            *libc::__errno_location() = errno;
            if mapped != libc::MAP_FAILED {
                return;
            }
        }
    }
    pass_on(signal, info, context);
}

/// Does what would have been done without us.
fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let before = BEFORE.get();
    let handler = before.map_or(libc::SIG_DFL, |action| action.sa_sigaction);
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // Returning runs into the fault again, this time without a handler.
        // SAFETY: Sets the default action.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    let takes_info = before.is_some_and(|action| action.sa_flags & libc::SA_SIGINFO != 0);
    // SAFETY: The address is that of a handler that somebody set, of the kind that its flags say.
    unsafe {
        if takes_info {
            type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
            std::mem::transmute::<usize, Handler>(handler)(signal, info, context);
        } else {
            std::mem::transmute::<usize, extern "C" fn(i32)>(handler)(signal);
        }
    }
}
