//! Single commands by nvme-cli, each judged by its status and by what it did.

use anyhow::{Context, Result, ensure};
use vm::{Checks, Finished, Running};

use crate::identity::number;
use crate::subject::Subject;

/// The status code and its type in a completion, as nvme-cli prints it; `None` where it printed none.
fn status(finished: &Finished) -> Option<u32> {
    let said = format!("{}{}", finished.stdout, finished.stderr);
    let after = said.split("NVMe status:").nth(1)?;
    let digits = after.split("(0x").nth(1)?.split(')').next()?;
    // Without do-not-retry, more and the retry delay.
    u32::from_str_radix(digits, 16).ok().map(|status| status & 0x7ff)
}

pub(crate) fn refused_with(finished: &Finished, expected: u32) -> Result<()> {
    ensure!(
        finished.status != 0 && status(finished) == Some(expected),
        "expected status {expected:#x}: {finished:?}"
    );
    Ok(())
}

pub(crate) fn examine(checks: &mut Checks, guest: &mut Running, subject: &Subject<'_>) -> Result<()> {
    let controller = guest.run("nvme id-ctrl /dev/nvme0 -o json")?.json()?;
    let optional = number(&controller, "oncs")?;
    let blocks = subject.image.metadata()?.len() / 512;
    guest.run("cd /run; head -c 4096 /dev/urandom >a; head -c 4096 /dev/urandom >b; head -c 4096 /dev/zero >zero")?.succeeded()?;

    let script = "nvme write /dev/nvme0n1 -s 8 -c 7 -z 4096 -d /run/a && nvme flush /dev/nvme0n1 -n 1 && \
                  nvme read /dev/nvme0n1 -s 8 -c 7 -z 4096 -d /run/got && cmp /run/a /run/got && \
                  dd if=/dev/nvme0n1 bs=512 skip=8 count=8 iflag=direct status=none | cmp - /run/a";
    checks.succeeds(guest, "nvme write, flush, read", script);
    let script = "nvme write /dev/nvme0n1 -s 8 -c 7 -z 4096 -d /run/b --force-unit-access && \
                  nvme read /dev/nvme0n1 -s 8 -c 7 -z 4096 -d /run/got --force-unit-access && cmp /run/b /run/got";
    checks.succeeds(guest, "nvme write and read with forced unit access", script);

    // ONCS: NVM Express Base Specification, Identify Controller, bytes 521:520.
    let offered = |checks: &mut Checks, bit: u32, name: &str| {
        let offered = optional >> bit & 1 == 1;
        if !offered && subject.complete {
            checks.judge(name, || anyhow::bail!("ONCS is {optional:#x}, without bit {bit}"));
        } else if !offered {
            checks.not_offered(name, &format!("ONCS is {optional:#x}"));
        }
        offered
    };
    if offered(checks, 3, "nvme write-zeroes") {
        let script = "nvme write-zeroes /dev/nvme0n1 -s 8 -c 7 && nvme read /dev/nvme0n1 -s 8 -c 7 -z 4096 -d /run/got && \
                      cmp /run/zero /run/got";
        checks.succeeds(guest, "nvme write-zeroes", script);
    }
    if offered(checks, 2, "nvme dsm") {
        let script = "nvme dsm /dev/nvme0n1 --ad --slbs=16,4096 --blocks=8,2048 && \
                      nvme read /dev/nvme0n1 -s 16 -c 7 -z 4096 -d /run/got && blkdiscard -o 1M -l 1M /dev/nvme0n1";
        checks.succeeds(guest, "nvme dsm and discard", script);
    }
    if offered(checks, 0, "nvme compare") {
        let script = "nvme write /dev/nvme0n1 -s 24 -c 7 -z 4096 -d /run/a && \
                      nvme compare /dev/nvme0n1 -s 24 -c 7 -z 4096 -d /run/a";
        checks.succeeds(guest, "nvme compare: the same", script);
        let script = "nvme compare /dev/nvme0n1 -s 24 -c 7 -z 4096 -d /run/b";
        checks.check(guest, "nvme compare: another", script, |finished| refused_with(finished, 0x285));
    }
    if offered(checks, 7, "nvme verify") {
        checks.succeeds(guest, "nvme verify", "nvme verify /dev/nvme0n1 -s 24 -c 7");
    }
    if offered(checks, 8, "nvme copy") {
        // SPDK takes only one range. MSRC counts from zero.
        let namespace = guest.run("nvme id-ns /dev/nvme0n1 -o json")?.json()?;
        let (starts, lengths, rest) = if subject.complete || number(&namespace, "msrc")? > 0 {
            ("32,48", "7,7", "zero")
        } else {
            ("32", "7", "a")
        };
        let script = format!(
            "nvme write /dev/nvme0n1 -s 32 -c 7 -z 4096 -d /run/b && nvme write /dev/nvme0n1 -s 48 -c 7 -z 4096 -d /run/a && \
             nvme write /dev/nvme0n1 -s 1008 -c 7 -z 4096 -d /run/{rest} && \
             nvme copy /dev/nvme0n1 --sdlba=1000 --slbs={starts} --blocks={lengths} --format=0 && \
             dd if=/dev/nvme0n1 bs=512 skip=1000 count=16 iflag=direct status=none | cmp - <(cat /run/b /run/a)"
        );
        checks.succeeds(guest, "nvme copy", &script);
    }
    refusals(checks, guest, blocks);
    Ok(())
}

/// Commands that no controller may carry out, and the status that the specification gives them.
fn refusals(checks: &mut Checks, guest: &mut Running, blocks: u64) {
    let refusals = [
        ("reading past the end", format!("nvme read /dev/nvme0n1 -s {blocks} -c 0 -z 512 -d /run/got"), 0x80),
        (
            "reading across the end",
            format!("nvme read /dev/nvme0n1 -s {} -c 7 -z 4096 -d /run/got", blocks - 1),
            0x80,
        ),
        (
            "reading at the last number",
            "nvme read /dev/nvme0n1 -s 0xffffffffffffffff -c 1 -z 1024 -d /run/got".into(),
            0x80,
        ),
        (
            "an unknown command for a namespace",
            "nvme io-passthru /dev/nvme0n1 --opcode=0x7e -n 1".into(),
            0x01,
        ),
        (
            "an unknown command for the controller",
            "nvme admin-passthru /dev/nvme0 --opcode=0x7f".into(),
            0x01,
        ),
        ("identifying a namespace beyond the last", "nvme id-ns /dev/nvme0 -n 0xfffffff0".into(), 0x0b),
        ("an unknown feature", "nvme get-feature /dev/nvme0 -f 0xbf".into(), 0x02),
        ("an unknown log page", "nvme get-log /dev/nvme0 -i 0xbe -l 512".into(), 0x109),
        (
            "an unknown structure to identify",
            "nvme admin-passthru /dev/nvme0 --opcode=6 --cdw10=0xde -l 4096 -r".into(),
            0x02,
        ),
        (
            "deleting a queue that is not there",
            "nvme admin-passthru /dev/nvme0 --opcode=0 --cdw10=200".into(),
            0x101,
        ),
    ];
    for (name, script, expected) in refusals {
        checks
            .check(guest, &format!("refused: {name}"), &script, |finished| refused_with(finished, expected));
    }
}

/// Resets the controller in peace and under load; Linux gives its requests again.
pub(crate) fn reset(checks: &mut Checks, guest: &mut Running) {
    let script = "for i in 1 2 3; do nvme reset /dev/nvme0 || exit; done; \
                  for i in $(seq 100); do [ $(cat /sys/class/nvme/nvme0/state) = live ] && break; sleep 0.1; done; \
                  cat /sys/class/nvme/nvme0/state; dd if=/dev/nvme0n1 of=/dev/null bs=1M count=4 iflag=direct status=none";
    checks.check(guest, "nvme reset", script, |finished| {
        ensure!(finished.succeeded()? == "live\n", "{finished:?}");
        Ok(())
    });
    let script = "fio --name=reset --filename=/dev/nvme0n1 --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth=16 \
                  --size=16M --loops=4 --verify=crc32c --output-format=json >/run/fio & \
                  for i in 1 2 3 4; do sleep 0.5; nvme reset /dev/nvme0 || exit 9; done; wait $! || exit; cat /run/fio";
    checks.check(guest, "nvme reset while fio writes and verifies", script, |finished| {
        let report = finished.json()?;
        let job = report["jobs"].get(0).context("no job")?;
        ensure!(job["error"] == 0 && number(&job["write"], "total_ios")? >= 4096, "{job}");
        Ok(())
    });
}
