//! Data through many queues, and namespaces that come and go.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use vm::{Checks, Running};

use crate::subject::{NamespaceChange, Subject};

/// What the guest reads must be what the image holds.
pub(crate) fn compare_with_image(
    checks: &mut Checks,
    guest: &mut Running,
    image: &Path,
    block_size: usize,
) -> Result<()> {
    for size in [1 << 20, 5 * 4096, block_size] {
        // Single blocks for a part only: an emulated processor is slow.
        let part = if size == block_size { 1 << 20 } else { image.metadata()?.len() };
        let sum = Command::new("sh")
            .args(["-c", &format!("head -c {part} \"$0\" | sha256sum")])
            .arg(image)
            .output()?;
        let expected = String::from_utf8(sum.stdout)?;
        let script = format!(
            "set -o pipefail; dd if=/dev/nvme0n1 bs={size} count={part} iflag=direct,count_bytes status=none | sha256sum"
        );
        checks.check(
            guest,
            &format!("{part} bytes of the image read in pieces of {size}"),
            &script,
            |finished| {
                ensure!(finished.succeeded()? == expected, "expected {expected}: {finished:?}");
                Ok(())
            },
        );
    }
    Ok(())
}

/// fio writes, reads back and compares: several jobs, so both queues, and sizes from one block to many pages.
pub(crate) fn verify(checks: &mut Checks, guest: &mut Running) {
    let limit = Duration::from_secs(150);
    let common = "--direct=1 --verify=crc32c --verify_fatal=1 --group_reporting --randrepeat=1 --minimal";
    let script = format!(
        "fio {common} --name=kernel --filename=/dev/nvme0n1 --ioengine=libaio --iodepth=16 --numjobs=4 --rw=randwrite \
         --bsrange=512-256k --bs_unaligned=0 --blockalign=512 --size=12M --offset_increment=12M"
    );
    checks.succeeds_within(guest, "fio --verify, 4 jobs, 512 B to 256 KiB", limit, &script);
    let script = format!(
        "fio {common} --name=small --filename=/dev/nvme0n1 --ioengine=io_uring --iodepth=64 --numjobs=2 --rw=randrw \
         --bs=4k --size=8M --offset_increment=8M"
    );
    checks.succeeds_within(guest, "fio --verify, 2 jobs by io_uring, 4 KiB", limit, &script);
    let script = format!(
        "fio {} --name=passed --filename=/dev/ng0n1 --ioengine=io_uring_cmd --cmd_type=nvme --iodepth=32 --numjobs=2 \
         --rw=randwrite --bs=4k --size=8M --offset_increment=8M",
        common.replace("--direct=1 ", "")
    );
    checks.succeeds_within(guest, "fio --verify, 2 jobs by NVMe passthrough, 4 KiB", limit, &script);
    checks.check(
        guest,
        "both queues were used and interrupted",
        "grep nvme0q /proc/interrupts",
        |finished| {
            let lines = finished.succeeded()?;
            for queue in ["nvme0q1", "nvme0q2"] {
                let line = lines.lines().find(|line| line.ends_with(queue)).unwrap_or_default();
                let count: u64 =
                    line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok()).sum();
                ensure!(count > 100, "{queue}: {lines}");
            }
            Ok(())
        },
    );
}

/// The guest must hear of namespaces without asking.
pub(crate) fn change_namespaces(checks: &mut Checks, guest: &mut Running, subject: &mut Subject<'_>) {
    let change = &mut subject.change;
    checks.judge("a namespace that appears is seen without a rescan", || {
        change(NamespaceChange::Add)?;
        let script = "for i in $(seq 100); do [ -b /dev/nvme0n2 ] && break; sleep 0.1; done; \
                      dd if=/dev/nvme0n2 of=/dev/null bs=4k count=16 iflag=direct status=none";
        guest.run(script)?.succeeded().map(drop)
    });
    checks.judge("a namespace that goes is gone without a rescan", || {
        change(NamespaceChange::Remove)?;
        guest
            .run("for i in $(seq 100); do [ -b /dev/nvme0n2 ] || exit 0; sleep 0.1; done; exit 1")?
            .succeeded()
            .map(drop)
    });
    checks.succeeds(guest, "nvme ns-rescan", "nvme ns-rescan /dev/nvme0 && [ -b /dev/nvme0n1 ]");
}
