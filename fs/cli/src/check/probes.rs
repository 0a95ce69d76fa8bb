//! The probes. Each looks at one thing and changes nothing.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use engine_open::{Backend, Direct, OpenOptions};
use rustix::process::{Resource, getrlimit};

use super::Finding;

/// All of them, those that decide about mounting first.
pub(crate) fn all() -> Vec<Finding> {
    vec![
        fuse_device(),
        fuse_kernel(),
        mounting(),
        helpers(),
        allow_other(),
        io_uring(),
        direct(),
        locked_memory(),
        kernel_formats(),
        huge_pages(),
        device_nodes("NVMe passthrough", "/dev", "ng", "no NVMe character device (/dev/ngXnY)"),
        device_nodes(
            "VFIO",
            "/dev/vfio",
            "",
            "no VFIO group; load vfio-pci for NVMe controllers of our own driver",
        ),
        ublk(),
    ]
}

fn fuse_device() -> Finding {
    const WHAT: &str = "/dev/fuse";
    match File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Finding::ok(WHAT, "opens"),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Finding::failed(
            WHAT,
            "closed to this user",
            "make it readable and writable (chmod 666), or run as root",
        ),
        Err(error) => Finding::failed(
            WHAT,
            error.kind().to_string(),
            "load the module (modprobe fuse), or let this container have the device",
        ),
    }
}

fn fuse_kernel() -> Finding {
    const WHAT: &str = "FUSE in the kernel";
    let listed = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !listed.lines().any(|line| line.split_whitespace().last() == Some("fuse")) {
        return Finding::failed(WHAT, "not there", "load the module (modprobe fuse)");
    }
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    // FUSE_PASSTHROUGH came with Linux 6.9, FUSE over io_uring with 6.14.
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let uring = fs::read_to_string("/sys/module/fuse/parameters/enable_uring").unwrap_or_default();
    let yes = |there| if there { "yes" } else { "no" };
    Finding::ok(
        WHAT,
        format!(
            "Linux {release}, passthrough {}, io_uring {}",
            yes(version >= (6, 9)),
            match (version >= (6, 14), uring.trim()) {
                (true, "Y" | "1") => "on",
                (true, _) => "off",
                (false, _) => "no",
            }
        ),
    )
}

fn mounting() -> Finding {
    const WHAT: &str = "Right to mount";
    if rustix::process::geteuid().is_root() {
        return Finding::ok(WHAT, "root");
    }
    match on_path("fusermount3") {
        Some(path) => Finding::ok(WHAT, format!("by {path}")),
        None => {
            Finding::failed(WHAT, "not root, and no fusermount3", "install the package fuse3, or run as root")
        }
    }
}

fn helpers() -> Finding {
    const WHAT: &str = "Helpers of mount(8)";
    let missing: Vec<_> = ["mount.homifs", "mount.fuse.homifs"]
        .into_iter()
        .filter(|helper| !["/sbin", "/usr/sbin"].iter().any(|place| Path::new(place).join(helper).is_file()))
        .collect();
    match &missing[..] {
        [] => Finding::ok(WHAT, "in /sbin"),
        missing => Finding::missing(
            WHAT,
            format!("{} not in /sbin", missing.join(" and ")),
            "install them for mount -t homifs and /etc/fstab; homifs mount works without",
        ),
    }
}

fn allow_other() -> Finding {
    const WHAT: &str = "allow_other for users";
    let config = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if config.lines().any(|line| line.trim() == "user_allow_other") {
        Finding::ok(WHAT, "/etc/fuse.conf allows it")
    } else {
        Finding::missing(
            WHAT,
            "only root may",
            "add the line user_allow_other to /etc/fuse.conf if users shall",
        )
    }
}

/// A file to try the engine on: this program itself.
fn try_engine(backend: Backend, direct: Direct) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let options = OpenOptions { backend, direct, exclusive: false, ..OpenOptions::default() };
    let device = engine_open::open(&program.to_string_lossy(), &options);
    let device = device.map_err(|error| homifs_core::error_chain(&error))?;
    device.queue(4).map_err(|error| homifs_core::error_chain(&error))?;
    let path = &device.info().path;
    Ok(path.split(" on ").next().unwrap_or(path).to_owned())
}

fn io_uring() -> Finding {
    const WHAT: &str = "io_uring";
    match try_engine(Backend::IoUring, Direct::Auto) {
        Ok(path) => Finding::ok(WHAT, path),
        Err(why) => {
            let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
            let advice = match disabled.trim() {
                "1" | "2" => "allow it with sysctl kernel.io_uring_disabled=0",
                _ => "update the kernel, or let this container use it (seccomp)",
            };
            Finding::missing(WHAT, format!("not to be had ({why}); devices are read with pread"), advice)
        }
    }
}

fn direct() -> Finding {
    const WHAT: &str = "O_DIRECT";
    match try_engine(Backend::Auto, Direct::On) {
        Ok(_) => Finding::ok(WHAT, "on the file system of this program"),
        Err(_) => Finding::missing(
            WHAT,
            "not on the file system of this program",
            "keep images on ext4, XFS or btrfs to read them past the page cache",
        ),
    }
}

fn locked_memory() -> Finding {
    const WHAT: &str = "Memory that may be locked";
    const WANTED: u64 = 64 << 20;
    match getrlimit(Resource::Memlock).current {
        _ if rustix::process::geteuid().is_root() => Finding::ok(WHAT, "no limit for root"),
        None => Finding::ok(WHAT, "no limit"),
        Some(limit) if limit >= WANTED => Finding::ok(WHAT, format!("{} MiB", limit >> 20)),
        Some(limit) => Finding::missing(
            WHAT,
            format!("{} KiB", limit >> 10),
            "raise it with ulimit -l, so that buffers can be registered with io_uring",
        ),
    }
}

fn kernel_formats() -> Finding {
    const WHAT: &str = "ext4 and XFS in the kernel";
    let listed = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has = |format: &&str| listed.lines().any(|line| line.split_whitespace().last() == Some(format));
    let missing: Vec<_> = ["ext4", "xfs"].into_iter().filter(|format| !has(format)).collect();
    match &missing[..] {
        [] => Finding::ok(WHAT, "both, to compare with"),
        missing => Finding::missing(
            WHAT,
            format!("not loaded: {}", missing.join(", ")),
            "not needed to mount with homifs",
        ),
    }
}

fn huge_pages() -> Finding {
    const WHAT: &str = "Huge pages";
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("HugePages_Total:"));
    match total.map_or("0", str::trim) {
        "0" => Finding::missing(WHAT, "none reserved", "not needed for kernel devices"),
        total => Finding::ok(WHAT, format!("{total} reserved")),
    }
}

fn device_nodes(what: &'static str, directory: &str, beginning: &str, absent: &str) -> Finding {
    let listing = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = listing.filter_map(|entry| entry.file_name().into_string().ok());
    let found: Vec<_> = names
        .filter(|name| {
            let number = name.strip_prefix(beginning);
            number.is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
        })
        .collect();
    match found.len() {
        0 => Finding::missing(what, absent, "this release reads through the kernel's block devices"),
        count => Finding::ok(what, format!("{count} in {directory}")),
    }
}

fn ublk() -> Finding {
    const WHAT: &str = "ublk";
    if Path::new("/dev/ublk-control").exists() {
        Finding::ok(WHAT, "/dev/ublk-control")
    } else {
        Finding::missing(WHAT, "no /dev/ublk-control", "not needed in this release")
    }
}

fn on_path(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|place| place.join(program)).find(|file| file.is_file())?;
    Some(found.display().to_string())
}
