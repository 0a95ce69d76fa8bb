//! Kernels and limits that do not grant what is asked for.

use std::fs::File;
use std::io::Write;

use engine_block::{BlockDevice, OpenError, Piece, Pieces, Request};
use engine_uring::{Backend, Direct, KernelDevice, Preference};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

const SIZE: usize = 256 << 10;

fn image() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let contents: Vec<u8> = (0..SIZE).map(|at| (at % 253) as u8).collect();
    file.write_all(&contents).unwrap();
    file
}

fn device(file: &tempfile::NamedTempFile, backend: Backend) -> Result<KernelDevice, OpenError> {
    let opened = File::open(file.path()).unwrap();
    KernelDevice::new(opened, "image", Preference { backend, direct: Direct::Auto })
}

/// Reads some pieces; answers whether the memory for them was registered with the ring.
fn reads_well(device: &KernelDevice) -> bool {
    let mut queue = device.queue(4).unwrap();
    let buffer = queue.buffer(20_000).unwrap();
    let registered = buffer.arena().registration().is_some();
    let ranges = [(8192, 0, 4096), (100, 4096, 9000)];
    let pieces: Pieces = ranges
        .map(|(device_offset, buffer_offset, length)| Piece { device_offset, buffer_offset, length })
        .into_iter()
        .collect();
    let done = queue.read(Request { tag: 0, buffer, pieces });
    assert_eq!(done.result, Ok(()));
    for (start, place, length) in ranges {
        let right = (0..length).all(|at| usize::from(done.buffer[place + at]) == (start as usize + at) % 253);
        assert!(right, "{length} bytes at {start}");
    }
    registered
}

/// Lets io_uring_setup(2) fail with `EPERM` on this thread from now on, as containers and
/// `kernel.io_uring_disabled` do. There is no way back; the thread ends with the test.
fn forbid_io_uring() {
    let load_number = libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 }; // BPF_LD | BPF_W | BPF_ABS
    let compare = libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: libc::SYS_io_uring_setup as u32 }; // BPF_JEQ
    let refuse =
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ERRNO | libc::EPERM as u32 };
    let allow = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let mut filter = [load_number, compare, refuse, allow];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: prctl reads its plain arguments only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: The program and its four instructions live through the call, which copies them.
    let installed =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(installed, 0);
}

#[test]
fn kernel_that_forbids_io_uring_is_served_by_pread_or_the_device_refused() {
    let file = image();
    assert!(device(&file, Backend::Auto).unwrap().info().path.starts_with("io_uring"));
    let ring_before = device(&file, Backend::Auto).unwrap();
    std::thread::spawn(move || {
        forbid_io_uring();
        let served = device(&file, Backend::Auto).unwrap();
        let path = &served.info().path;
        assert!(path.starts_with("pread") && path.contains("Operation not permitted"), "{path}");
        reads_well(&served);
        let refused = device(&file, Backend::IoUring).unwrap_err();
        let OpenError::System { source, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(source.raw_os_error(), Some(libc::EPERM));
        assert!(ring_before.queue(1).is_err());
    })
    .join()
    .unwrap();
}

#[test]
fn memory_that_may_not_be_pinned_is_read_into_unregistered() {
    let file = image();
    let privileged = device(&file, Backend::IoUring).unwrap();
    if !reads_well(&privileged) {
        println!("skipped: this user may not register memory");
        return;
    }
    std::thread::spawn(move || {
        let mut sets = capabilities(None).unwrap();
        sets.effective -= CapabilitySet::IPC_LOCK;
        set_capabilities(None, sets).unwrap();
        let before = getrlimit(Resource::Memlock);
        setrlimit(Resource::Memlock, Rlimit { current: Some(65536), ..before }).unwrap();
        let registered = reads_well(&device(&file, Backend::IoUring).unwrap());
        setrlimit(Resource::Memlock, before).unwrap();
        assert!(!registered);
    })
    .join()
    .unwrap();
}
