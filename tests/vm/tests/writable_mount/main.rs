//! A writable mount in a guest, whose kernel has what few machines have at hand: quotas of every kind, and a disk that loses
//! what is written to it. Also the one test that runs homifs itself on another kernel than the machine's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oracle::skip_if;
use vm::{Checks, Guest, Kit, Running};

/// Refusals that one round of attempts must bring, or the limits were not there.
const FEWEST_REFUSALS: usize = 9;
const LIMIT: Duration = Duration::from_secs(100);

#[test]
fn writable_mount_keeps_quotas_as_the_kernel_does_and_loses_nothing_with_the_power() -> Result<()> {
    skip_if!(Kit::find().err());
    let kit = Kit::find().map_err(anyhow::Error::msg)?;
    skip_if!(kit.lacks(&["dmsetup", "quota"]));
    let guest = Guest::new(&kit).limit(Duration::from_secs(500));
    let guest = guest.carry(&mounts::homifs()?, "homifs").carry(&mounts::helper()?, "mount-homifs");
    let mut guest = guest.boot()?;
    println!("booted at attempt {}, {} s after its kernel started", guest.attempt(), guest.uptime());
    guest.run(&script("set_up"))?.succeeded().context("the guest is not ready")?;
    let mut checks = Checks::default();
    for format in ["ext4", "xfs"] {
        compare_quotas(&mut checks, &mut guest, format);
        lose_power(&mut checks, &mut guest, format);
    }
    guest.power_off()?;
    checks.finish()
}

/// The guest's functions, and what of them is to be done.
fn script(what: &str) -> String {
    let functions = [include_str!("guest.sh"), include_str!("quotas.sh"), include_str!("power_loss.sh")];
    format!("{}\n{what}\n", functions.concat())
}

/// What the limits let through on the kernel's own mount is the measure for ours, and so is what its books say then.
fn compare_quotas(checks: &mut Checks, guest: &mut Running, format: &str) {
    let mut by_kernel = String::new();
    checks.judge(&format!("{format}: quotas of the kernel's mount"), || {
        let command =
            format!(r#"try_on {format} mount -t {format} -o "$(quota_options {format})" "$DISK" "$PLACE""#);
        guest.run_within(&script(&command), LIMIT)?.succeeded()?.clone_into(&mut by_kernel);
        let refusals = ["Disk quota exceeded", "No space left on device"];
        let refused = by_kernel.lines().filter(|line| refusals.iter().any(|end| line.ends_with(end))).count();
        ensure!(refused >= FEWEST_REFUSALS, "only {refused} attempts were refused:\n{by_kernel}");
        Ok(())
    });
    for options in ["rw", "rw,clients=2", "rw,reads=engine"] {
        checks.judge(&format!("{format}: quotas of a mount with {options}"), || {
            let command = format!(
                r#"try_on {format} mount -t homifs -o "{options},$(quota_options {format})" "$DISK" "$PLACE""#
            );
            let finished = guest.run_within(&script(&command), LIMIT)?;
            let ours = finished.succeeded()?;
            for (ours, kernel) in ours.lines().zip(by_kernel.lines()) {
                ensure!(ours == kernel, "{ours:?}, and on the kernel's mount {kernel:?}");
            }
            ensure!(ours.lines().count() == by_kernel.lines().count(), "{ours}");
            Ok(())
        });
    }
}

/// What was said to be written is there after the power was lost, whoever recovers the journal.
fn lose_power(checks: &mut Checks, guest: &mut Running, format: &str) {
    let mut step = |name: &str, what: &str| {
        checks.succeeds_within(guest, &format!("{format}: {name}"), LIMIT, &script(what));
    };
    step("a disk that can lose its power", &format!("unsteady_volume {format}"));
    step("written on it until the power was lost", "lose_power rw,clients=2");
    // Recovery in memory is our own, and leaves the disk as it is. What it cannot do it does not begin.
    let (name, recovery) = match format {
        "xfs" => (
            "a log that is not empty is refused",
            r#"said=$(mount -t homifs -o ro "$UNSTEADY" "$PLACE" 2>&1); [[ $? == 32 && $said == *"log holds newer metadata"* ]]"#,
        ),
        _ => (
            "read-only after that",
            r#"mount -t homifs -o ro "$UNSTEADY" "$PLACE" >/dev/null && is_durable && umount "$PLACE""#,
        ),
    };
    step(name, &format!(r#"sum=$(sha256sum <"$DISK"); {recovery} && [[ $sum == "$(sha256sum <"$DISK")" ]]"#));
    step(
        "read-only, recovered by the kernel",
        r#"mount -t homifs -o ro,recovery=media "$UNSTEADY" "$PLACE" >/dev/null && is_durable && umount "$PLACE""#,
    );
    step(
        "writable, read by the engine",
        r#"mount -t homifs -o rw,reads=engine "$UNSTEADY" "$PLACE" >/dev/null && is_durable && umount "$PLACE""#,
    );
    step(
        "nothing for the checker to find",
        &format!(r#"check_volume {format} "$UNSTEADY" && dmsetup remove unsteady"#),
    );
}
