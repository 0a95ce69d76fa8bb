//! Linux' own NVMe driver, nvme-cli, fio and ext4, in a guest, against `homifs controller`; and against SPDK's target,
//! which shows that a check that fails is not the check's own fault.

mod commands;
mod data;
mod filesystem;
mod identity;
mod subject;

use std::time::Duration;

use anyhow::{Context, Result};
use oracle::skip_if;
use vm::{Checks, ControllerServer, Guest, Kit, Running, Spdk};

use subject::{NamespaceChange, Subject};

const IMAGE_MIB: usize = 128;

#[test]
fn linux_on_homifs_controller_finds_nothing_to_complain_about() -> Result<()> {
    skip_if!(Kit::find().err());
    let kit = Kit::find().map_err(anyhow::Error::msg)?;
    let image = subject::patterned_image(IMAGE_MIB)?;
    let second = subject::patterned_image(16)?;
    let mut server = ControllerServer::start(image.path(), ["--threads", "2"])?;
    let socket = server.socket();
    let mut change = |change: NamespaceChange| match change {
        NamespaceChange::Add => server.command(&format!("add {}", second.path().display())),
        NamespaceChange::Remove => server.command("remove 2"),
    };
    let mut subject = Subject { image: image.path(), complete: true, change: &mut change };
    let mut checks = Checks::default();
    let outcome = judge(&kit, &socket, &mut subject, &mut checks);
    println!("homifs controller said: {}", server.said().trim());
    let files = outcome?;
    checks.judge("homifs controller ends well when it is told to", || server.stop());
    filesystem::examine_image(&mut checks, image.path(), &files);
    checks.finish()
}

#[test]
fn linux_on_spdk_target_finds_nothing_to_complain_about() -> Result<()> {
    skip_if!(Kit::find().err());
    skip_if!(Spdk::find().err());
    let kit = Kit::find().map_err(anyhow::Error::msg)?;
    let image = subject::patterned_image(IMAGE_MIB)?;
    let target = Spdk::find().map_err(anyhow::Error::msg)?.target(image.path(), 512)?;
    let socket = target.socket();
    let mut change = |change: NamespaceChange| match change {
        NamespaceChange::Add => target.add_namespace("B2", 4096, 4096),
        NamespaceChange::Remove => target.remove_namespace(2),
    };
    let mut subject = Subject { image: image.path(), complete: false, change: &mut change };
    let mut checks = Checks::default();
    let outcome = judge(&kit, &socket, &mut subject, &mut checks);
    println!("nvmf_tgt said: {}", target.said().trim());
    let files = outcome?;
    drop(target);
    filesystem::examine_image(&mut checks, image.path(), &files);
    checks.finish()
}

/// All checks in one boot. The image holds an ext4 volume in the end, with the files that are returned.
fn judge(
    kit: &Kit,
    socket: &std::path::Path,
    subject: &mut Subject<'_>,
    checks: &mut Checks,
) -> Result<filesystem::Written> {
    // nvme show-regs maps the registers, which the kernel's driver has.
    let guest = Guest::new(kit).kernel_argument("iomem=relaxed").vfio_user(socket);
    let mut guest = guest.limit(Duration::from_secs(400)).boot()?;
    println!("booted at attempt {}, {} s after its kernel started", guest.attempt(), guest.uptime());
    wait_for_namespace(&mut guest)?;
    let running = &mut guest;
    identity::examine(checks, running, subject)?;
    data::compare_with_image(checks, running, subject.image, 512)?;
    commands::examine(checks, running, subject)?;
    data::change_namespaces(checks, running, subject);
    data::verify(checks, running);
    commands::reset(checks, running);
    let files = filesystem::write(checks, running);
    checks.check(running, "the kernel complained about nothing", "dmesg", |dmesg| {
        let bad = [
            "timeout",
            "I/O error",
            "Oops",
            "BUG:",
            "WARNING:",
            "controller is down",
            "Buffer I/O",
            "not responding",
        ];
        // SPDK's image has no way to discard.
        let known = |line: &str| !subject.complete && line.contains("DISCARD");
        let complaints: Vec<_> = dmesg
            .succeeded()?
            .lines()
            .filter(|line| bad.iter().any(|bad| line.contains(bad)) && !known(line))
            .collect();
        anyhow::ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
        Ok(())
    });
    checks.judge("the guest powers off", || guest.power_off());
    Ok(files)
}

/// The kernel probes in the background.
fn wait_for_namespace(guest: &mut Running) -> Result<()> {
    let script = "for i in $(seq 700); do [ -b /dev/nvme0n1 ] && exit 0; sleep 0.1; done; dmesg | grep -i nvme; exit 1";
    guest.run(script)?.succeeded().map(drop).context("no namespace appears")
}

#[test]
fn linux_on_read_only_namespace_of_4096_byte_blocks_reads_and_cannot_write() -> Result<()> {
    skip_if!(Kit::find().err());
    let kit = Kit::find().map_err(anyhow::Error::msg)?;
    let image = subject::patterned_image(16)?;
    let before = std::fs::read(image.path())?;
    let options = ["--read-only", "--block-size", "4096", "--no-mapped-doorbells"];
    let server = ControllerServer::start(image.path(), options)?;
    let mut guest = Guest::new(&kit).vfio_user(&server.socket()).limit(Duration::from_secs(200)).boot()?;
    wait_for_namespace(&mut guest)?;
    let mut checks = Checks::default();
    let script =
        "cat /sys/block/nvme0n1/ro /sys/block/nvme0n1/queue/logical_block_size /sys/block/nvme0n1/size";
    checks.check(&mut guest, "Linux knows that it cannot write", script, |finished| {
        let expected = format!("1\n4096\n{}\n", before.len() / 512);
        anyhow::ensure!(finished.succeeded()? == expected, "expected {expected:?}: {finished:?}");
        Ok(())
    });
    data::compare_with_image(&mut checks, &mut guest, image.path(), 4096)?;
    let script = "head -c 4096 /dev/urandom >/run/a; nvme write /dev/nvme0 -n 1 -s 0 -c 0 -z 4096 -d /run/a; \
                  nvme io-passthru /dev/nvme0 -n 1 --opcode=1 --cdw12=0 -l 4096 -w -i /run/a";
    checks.check(&mut guest, "a write is refused", script, |finished| {
        // "Namespace is Write Protected".
        commands::refused_with(finished, 0x20)
    });
    checks.judge("the guest powers off", || guest.power_off());
    println!("homifs controller said: {}", server.said().trim());
    checks.judge("homifs controller ends well when it is told to", || server.stop());
    checks.judge("the image is as before", || {
        anyhow::ensure!(std::fs::read(image.path())? == before, "it was changed");
        Ok(())
    });
    checks.finish()
}
