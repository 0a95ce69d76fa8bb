//! SPDK's own driver against `homifs controller`: it identifies, measures, and writes and compares.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oracle::skip_if;
use vm::{Checks, ControllerServer, Spdk};

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn spdk_on_homifs_controller_identifies_verifies_and_measures() -> Result<()> {
    skip_if!(Spdk::find().err());
    let spdk = Spdk::find().map_err(anyhow::Error::msg)?;
    let image = tempfile::NamedTempFile::new()?;
    image.as_file().set_len(64 << 20)?;
    let server = ControllerServer::start(image.path(), ["--threads", "1"])?;
    let folder = server.folder();
    let mut checks = Checks::default();
    checks.judge("spdk_nvme_identify", || {
        let said = spdk.initiate("bin/spdk_nvme_identify", folder, &[], LIMIT)?;
        let value = |name: &str| said.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
        ensure!(value("Serial Number:") == Some("homifs0"), "{said}");
        ensure!(value("Size (in LBAs):").is_some_and(|size| size.starts_with("131072 ")), "{said}");
        Ok(())
    });
    for (size, depth) in [(4096, 32), (131_072, 16), (512, 128), (1 << 20, 4)] {
        checks.judge(&format!("bdevperf -w verify, {size} B at depth {depth}"), || {
            let said = spdk.verify(folder, size, depth, 3)?;
            let rates = rates(&said).with_context(|| format!("no result: {said}"))?;
            // Commands a second, MiB a second, failures and time-outs a second.
            ensure!(rates[0] > 0.0 && rates[2] == 0.0 && rates[3] == 0.0, "{said}");
            Ok(())
        });
    }
    let arguments = ["-c", "0x2", "-o", "4096", "-q", "32", "-w", "randrw", "-M", "50", "-t", "3"];
    checks.judge("spdk_nvme_perf, 4 KiB at depth 32, half of it reads", || {
        let said = spdk.initiate("bin/spdk_nvme_perf", folder, &arguments, LIMIT)?;
        let rates = rates(&said).with_context(|| format!("no result: {said}"))?;
        println!("                  {} commands a second", rates[0]);
        ensure!(rates[0] > 0.0, "{said}");
        Ok(())
    });
    println!("homifs controller said: {}", server.said().trim());
    checks.judge("homifs controller ends well when it is told to", || server.stop());
    checks.finish()
}

/// The numbers in the line of totals.
fn rates(said: &str) -> Option<Vec<f64>> {
    let line = said.lines().rev().find_map(|line| line.trim().strip_prefix("Total"))?;
    let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    (numbers.len() >= 4).then_some(numbers)
}
