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
use vm::{Checks, ControllerServer, Guest, Kit, Spdk};

use subject::{NamespaceChange, Subject};

const IMAGE_MIB: usize = 128;

#[test]
fn linux_on_homifs_controller_finds_nothing_to_complain_about() -> Result<()> {
    skip_if!(Kit::find().err());
    let kit = Kit::find().map_err(anyhow::Error::msg)?;
    let image = subject::patterned_image(IMAGE_MIB)?;
    let server = ControllerServer::start(image.path(), &[] as &[&str])?;
    let socket = server.socket();
    let mut subject = Subject { image: image.path(), complete: true, change: None };
    let said =
        |error: anyhow::Error| error.context(format!("homifs controller said: {}", server.said().trim()));
    let mut checks = Checks::default();
    let files = judge(&kit, &socket, &mut subject, &mut checks).map_err(said)?;
    println!("homifs controller said: {}", server.said().trim());
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
    let mut subject = Subject { image: image.path(), complete: false, change: Some(&mut change) };
    let said = |error: anyhow::Error| error.context(format!("nvmf_tgt said: {}", target.said().trim()));
    let mut checks = Checks::default();
    let files = judge(&kit, &socket, &mut subject, &mut checks).map_err(said)?;
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
    let mut guest = Guest::new(kit).vfio_user(socket).limit(Duration::from_secs(400)).boot()?;
    println!("booted at attempt {}, {} s after its kernel started", guest.attempt(), guest.uptime());
    let guest_ = &mut guest;
    // The kernel probes in the background.
    guest_
        .run_within("until [ -b /dev/nvme0n1 ]; do sleep 0.1; done", Duration::from_secs(70))?
        .succeeded()
        .with_context(|| {
            format!(
                "no namespace appears: {}",
                guest_
                    .run("dmesg | grep -i nvme")
                    .map_or_else(|error| error.to_string(), |dmesg| dmesg.stdout)
            )
        })?;
    identity::examine(checks, guest_, subject)?;
    data::compare_with_image(checks, guest_, subject)?;
    commands::examine(checks, guest_, subject)?;
    data::change_namespaces(checks, guest_, subject);
    data::verify(checks, guest_);
    commands::reset(checks, guest_);
    let files = filesystem::write(checks, guest_);
    checks.check(guest_, "the kernel complained about nothing", "dmesg", |dmesg| {
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
        let complaints: Vec<_> =
            dmesg.succeeded()?.lines().filter(|line| bad.iter().any(|bad| line.contains(bad))).collect();
        anyhow::ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
        Ok(())
    });
    checks.judge("the guest powers off", || guest.power_off());
    Ok(files)
}
