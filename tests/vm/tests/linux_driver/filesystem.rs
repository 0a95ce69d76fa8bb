//! A file system that the guest makes and the host reads.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use oracle::command::{finish, run};
use vm::{Checks, Running};

/// What the guest says that it wrote: the sums of its files as sha256sum prints them.
#[derive(Debug, Default)]
pub(crate) struct Written {
    sums: String,
}

/// Makes an ext4 volume on the namespace and writes files of many sizes.
pub(crate) fn write(checks: &mut Checks, guest: &mut Running) -> Written {
    let limit = Duration::from_secs(150);
    checks.succeeds_within(guest, "mkfs.ext4", limit, "mkfs.ext4 -q -F -E lazy_itable_init=0 /dev/nvme0n1");
    let mut sums = String::new();
    let script = "mkdir -p /run/m && mount /dev/nvme0n1 /run/m && cd /run/m && mkdir -p some/deep/folder && \
                  for size in 0 1 511 512 4095 4096 4097 65536 1000000 9000000; do \
                      head -c $size /dev/urandom >file.$size || exit; done && \
                  for i in $(seq 300); do echo $i >some/deep/folder/$i || exit; done && \
                  truncate -s 5M sparse && echo end | dd of=sparse bs=1 seek=3000000 conv=notrunc status=none && \
                  rm some/deep/folder/1?? && sync && find . -type f -print0 | sort -z | xargs -0 sha256sum && cd / && \
                  umount /run/m";
    checks.judge("mount, write files, umount", || {
        let finished = guest.run_within(script, limit)?;
        finished.succeeded()?.clone_into(&mut sums);
        Ok(())
    });
    let script = "mount -o ro /dev/nvme0n1 /run/m && cd /run/m && find . -type f -print0 | sort -z | xargs -0 sha256sum && \
                  cd / && umount /run/m";
    checks.check(guest, "mount again and read the same", script, |finished| {
        ensure!(finished.succeeded()? == sums, "{finished:?}");
        Ok(())
    });
    checks.succeeds(guest, "e2fsck in the guest", "e2fsck -fn /dev/nvme0n1");
    Written { sums }
}

/// Reads the image with the host's tools, when neither guest nor controller is there any more.
pub(crate) fn examine_image(checks: &mut Checks, image: &Path, written: &Written) {
    checks.judge("e2fsck of the image on the host", || {
        run("e2fsck", [OsStr::new("-fn"), image.as_os_str()]).map(drop)
    });
    checks.judge("the image holds the files that the guest wrote", || {
        ensure!(written.sums.lines().count() > 200, "the guest wrote {} files", written.sums.lines().count());
        let into = tempfile::tempdir()?;
        let request = format!("rdump / {}", into.path().display());
        run("debugfs", [OsStr::new("-R"), OsStr::new(&request), image.as_os_str()])?;
        let script = "find . -type f -print0 | sort -z | xargs -0 sha256sum";
        let found = finish(
            Command::new("sh").args(["-c", script]).current_dir(into.path()).env("LC_ALL", "C.UTF-8"),
        )?;
        ensure!(found == written.sums, "the guest wrote:\n{}\nthe image holds:\n{found}", written.sums);
        Ok(())
    });
}
