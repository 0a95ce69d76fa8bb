//! Acting as the one who asked, on the thread that answers.
//!
//! The kernel's FUSE has checked permissions already (`default_permissions`). What is left is whose the new file is and
//! whether its bits survive: `setfsuid(2)` and `setfsgid(2)` decide both, since leaving uid 0 also leaves `CAP_FSETID`.
//! `CAP_DAC_OVERRIDE` is taken back, because the groups of the caller, by which it may have been let in, are not known here.

use std::cell::Cell;
use std::marker::PhantomData;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process or thread, by which its further groups are found where they matter.
    pub pid: u32,
}

thread_local! {
    static OWN_UMASK: Cell<bool> = const { Cell::new(false) };
}

/// As long as this lives, the thread makes files as somebody else.
#[derive(Debug)]
pub struct Assumed {
    changed: bool,
    /// What the thread could do before.
    capabilities: Option<CapabilitySets>,
    groups: Option<Vec<u32>>,
    umask: Option<u32>,
    /// Not for other threads: identity belongs to one.
    _here: PhantomData<*const ()>,
}

impl Assumed {
    /// Takes on an identity.
    #[must_use]
    pub fn new(who: &Identity) -> Self {
        let changed = who.uid != 0 || who.gid != 0;
        let mut before = None;
        if changed {
            before = capabilities(None).ok().filter(|_| who.uid != 0);
            // SAFETY: Both change the identity of this thread alone, and only for access to files.
            unsafe {
                libc::setfsgid(who.gid);
                libc::setfsuid(who.uid);
            }
            if before.is_some()
                && let Ok(sets) = capabilities(None)
            {
                // Neither bits that only root may keep, nor the blocks that are reserved for it.
                let effective =
                    (sets.effective | CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH)
                        - CapabilitySet::FSETID
                        - CapabilitySet::SYS_RESOURCE;
                let _ = set_capabilities(None, CapabilitySets { effective, ..sets });
            }
        }
        Self { changed, capabilities: before, groups: None, umask: None, _here: PhantomData }
    }

    /// As [`new`](Self::new), for registering a file below that others will write past us, as this one: bits that make
    /// programs run as somebody else are then lost with the first write, whoever writes. (The kernel's own driver lets
    /// root keep them; here root may be the one who opened, and another the one who writes.)
    #[must_use]
    pub fn for_writers(who: &Identity) -> Self {
        let mut assumed = Self::new(who);
        if who.uid == 0
            && let Ok(before) = capabilities(None)
        {
            assumed.capabilities = Some(before);
            let effective = before.effective - CapabilitySet::FSETID;
            let _ = set_capabilities(None, CapabilitySets { effective, ..before });
        }
        assumed
    }

    /// As [`new`](Self::new), for making a file with these permission bits, less those of `umask` where the directory
    /// has no default ACL.
    pub(crate) fn creating(who: &Identity, mode: u32, umask: u32) -> Self {
        // Whether a set-group-ID bit stays depends on all groups of the caller.
        let mut assumed = if mode & libc::S_ISGID != 0 { Self::with_groups(who) } else { Self::new(who) };
        assumed.umask = Some(set_umask(umask));
        assumed
    }

    /// As [`new`](Self::new), with all groups that the caller is in.
    pub(crate) fn with_groups(who: &Identity) -> Self {
        if who.uid == 0 {
            return Self::new(who);
        }
        let groups = own_groups();
        // Before the identity changes: that takes the right to do so.
        set_groups(&groups_of(who.pid).unwrap_or_default());
        let mut assumed = Self::new(who);
        assumed.groups = Some(groups);
        assumed
    }
}

impl Drop for Assumed {
    fn drop(&mut self) {
        if let Some(umask) = self.umask {
            set_umask(umask);
        }
        if self.changed {
            // SAFETY: As above.
            unsafe {
                libc::setfsuid(0);
                libc::setfsgid(0);
            }
        }
        if let Some(before) = self.capabilities {
            let _ = set_capabilities(None, before);
        }
        if let Some(groups) = &self.groups {
            set_groups(groups);
        }
    }
}

/// The umask of this thread alone; the one before.
fn set_umask(mask: u32) -> u32 {
    OWN_UMASK.with(|own| {
        if !own.get() {
            // SAFETY: From now on this thread has its own working directory and umask; nothing here uses a relative path.
            own.set(unsafe { libc::unshare(libc::CLONE_FS) } == 0);
        }
        // SAFETY: It cannot fail, and is this thread's own.
        unsafe { libc::umask(mask & 0o777) }
    })
}

fn own_groups() -> Vec<u32> {
    rustix::process::getgroups()
        .map_or_else(|_| Vec::new(), |groups| groups.iter().map(|gid| gid.as_raw()).collect())
}

/// The groups of this thread alone: the library's function would change all threads.
fn set_groups(groups: &[u32]) {
    // SAFETY: The kernel reads as many numbers as there are.
    unsafe {
        libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr());
    }
}

fn groups_of(pid: u32) -> Option<Vec<u32>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"))?;
    Some(line.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect())
}
