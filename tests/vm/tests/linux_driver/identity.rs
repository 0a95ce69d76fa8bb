//! What the controller says of itself, as Linux and nvme-cli read it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vm::{Checks, Running};

use crate::subject::Subject;

/// A number in a structure that nvme-cli printed.
pub(crate) fn number(structure: &Value, name: &str) -> Result<u64> {
    structure[name].as_u64().with_context(|| format!("{name} is {}", structure[name]))
}

pub(crate) fn examine(checks: &mut Checks, guest: &mut Running, subject: &Subject<'_>) -> Result<()> {
    let length = subject.image.metadata()?.len();
    let script = "basename $(readlink /sys/class/nvme/nvme0/device/driver); cat /sys/class/nvme/nvme0/state";
    checks.check(guest, "Linux binds its driver", script, |finished| {
        ensure!(finished.succeeded()? == "nvme\nlive\n", "{finished:?}");
        Ok(())
    });
    checks.check(
        guest,
        "a queue for each processor",
        "cat /sys/class/nvme/nvme0/queue_count; nproc",
        |finished| {
            let numbers: Vec<u32> =
                finished.succeeded()?.lines().map(str::parse).collect::<Result<_, _>>()?;
            // And the one for administration.
            ensure!(matches!(numbers[..], [queues, processors] if queues == processors + 1), "{numbers:?}");
            Ok(())
        },
    );
    let script = "cat /sys/block/nvme0n1/size /sys/block/nvme0n1/queue/logical_block_size";
    checks.check(guest, "size and block size", script, |finished| {
        let expected = format!("{}\n512\n", length / 512);
        ensure!(finished.succeeded()? == expected, "expected {expected:?}: {finished:?}");
        Ok(())
    });
    checks.check(guest, "nvme id-ctrl", "nvme id-ctrl /dev/nvme0 -o json", |finished| {
        let controller = finished.json()?;
        for name in ["sn", "mn", "fr", "subnqn"] {
            let text = controller[name].as_str().unwrap_or_default().trim();
            ensure!(!text.is_empty() && text.is_ascii(), "{name} is {}", controller[name]);
        }
        // Entries of 64 and of 16 bytes, required and largest.
        ensure!(
            number(&controller, "sqes")? & 15 == 6 && number(&controller, "cqes")? & 15 == 4,
            "{controller}"
        );
        ensure!(
            number(&controller, "nn")? >= 1 && number(&controller, "ver")? >= 0x0001_0400,
            "{controller}"
        );
        Ok(())
    });
    checks.check(guest, "nvme id-ns", "nvme id-ns /dev/nvme0n1 -o json", |finished| {
        let namespace = finished.json()?;
        ensure!(number(&namespace, "nsze")? == length / 512, "nsze is {}", namespace["nsze"]);
        ensure!(number(&namespace, "ncap")? <= length / 512, "ncap is {}", namespace["ncap"]);
        ensure!(number(&namespace, "nuse")? <= number(&namespace, "ncap")?, "nuse is {}", namespace["nuse"]);
        let format = usize::try_from(number(&namespace, "flbas")? & 15)?;
        ensure!(
            namespace["lbafs"][format]["ds"] == 9 && namespace["lbafs"][format]["ms"] == 0,
            "{namespace}"
        );
        Ok(())
    });
    let script = "nvme list-ns /dev/nvme0 -o json && nvme ns-descs /dev/nvme0n1 && nvme list-subsys && nvme show-regs /dev/nvme0";
    checks.succeeds(guest, "nvme list-ns, ns-descs, list-subsys, show-regs", script);
    checks.check(guest, "nvme list", "nvme list -o json", |finished| {
        let listed = finished.succeeded()?;
        ensure!(listed.contains("nvme0n1") || listed.contains("nvme0"), "{listed}");
        Ok(())
    });
    checks
        .check(guest, "nvme fw-log", "nvme fw-log /dev/nvme0 -o json", |finished| finished.json().map(drop));
    for (feature, name) in [(1, "arbitration"), (4, "temperature"), (7, "queues"), (0xb, "events")] {
        let script = format!("nvme get-feature /dev/nvme0 -f {feature} -H");
        checks.succeeds(guest, &format!("nvme get-feature: {name}"), &script);
    }
    statistics(checks, guest, subject);
    Ok(())
}

/// The counters must move with what is done.
fn statistics(checks: &mut Checks, guest: &mut Running, subject: &Subject<'_>) {
    let script = "nvme smart-log /dev/nvme0 -o json; for i in 1 2 3 4 5; do dd if=/dev/nvme0n1 of=/dev/null bs=64k \
                  count=100 iflag=direct status=none || exit; done; nvme smart-log /dev/nvme0 -o json";
    let complete = subject.complete;
    checks.check(guest, "nvme smart-log counts reads", script, |finished| {
        let logs = finished.succeeded()?;
        let mut logs = serde_json::Deserializer::from_str(logs).into_iter::<Value>();
        let (Some(before), Some(after)) = (logs.next().transpose()?, logs.next().transpose()?) else {
            anyhow::bail!("not two logs: {}", finished.stdout);
        };
        if !complete {
            return Ok(());
        }
        let grown = |name: &str| -> Result<u64> {
            let value = |log: &Value| -> Result<u64> {
                // nvme-cli writes numbers of 128 bits as they come out.
                log[name]
                    .as_u64()
                    .or_else(|| log[name].as_str()?.parse().ok())
                    .with_context(|| format!("{name}: {log}"))
            };
            Ok(value(&after)?.saturating_sub(value(&before)?))
        };
        // 500 reads of 128 blocks; a unit is 1000 blocks.
        ensure!(grown("host_read_commands")? >= 500, "{before} {after}");
        ensure!((64..200).contains(&grown("data_units_read")?), "{before} {after}");
        Ok(())
    });
    let script = "nvme admin-passthru /dev/nvme0 --opcode=0x7f; nvme error-log /dev/nvme0 -e 4 -o json";
    checks.check(guest, "nvme error-log tells of a refused command", script, |finished| {
        let log = finished.json()?;
        if complete {
            let errors = log["errors"].as_array().context("no list of errors")?;
            // Invalid opcode, above the bit for the phase.
            let tells = errors.iter().any(|error| {
                error["error_count"].as_u64() > Some(0)
                    && error["status_field"].as_u64().map(|status| status & 0x7ff) == Some(1)
            });
            ensure!(tells, "{log}");
        }
        Ok(())
    });
}
