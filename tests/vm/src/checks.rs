//! Many checks in one guest, each told by name, because a boot costs more than all of them.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::agent::Finished;
use crate::guest::Running;

/// Collects what was checked; one that fails does not keep the others from running.
#[derive(Debug, Default)]
pub struct Checks {
    passed: usize,
    failed: Vec<String>,
}

impl Checks {
    /// Runs a script in the guest and has what came out judged. Says how it went.
    pub fn check(
        &mut self,
        guest: &mut Running,
        name: &str,
        script: &str,
        judge: impl FnOnce(&Finished) -> Result<()>,
    ) {
        self.judge(name, || judge(&guest.run(script)?));
    }

    /// As [`check`](Self::check), for a script that needs only succeed.
    pub fn succeeds(&mut self, guest: &mut Running, name: &str, script: &str) {
        self.check(guest, name, script, |finished| finished.succeeded().map(drop));
    }

    /// As [`succeeds`](Self::succeeds), for one that takes long.
    pub fn succeeds_within(&mut self, guest: &mut Running, name: &str, limit: Duration, script: &str) {
        self.judge(name, || guest.run_within(script, limit)?.succeeded().map(drop));
    }

    /// A check outside the guest.
    pub fn judge(&mut self, name: &str, check: impl FnOnce() -> Result<()>) {
        let started = Instant::now();
        let outcome = check();
        let took = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                println!("ok      {took:6.2} s  {name}");
                self.passed += 1;
            }
            Err(error) => {
                println!("FAILED  {took:6.2} s  {name}: {error:#}");
                self.failed.push(name.to_owned());
            }
        }
    }

    /// Says what a controller does not offer, so that it was not checked.
    pub fn not_offered(&self, name: &str, why: &str) {
        println!("not offered       {name}: {why}");
    }

    /// Ends the collection.
    ///
    /// # Errors
    /// Where a check failed.
    pub fn finish(self) -> Result<()> {
        println!("{} checks passed, {} failed", self.passed, self.failed.len());
        if !self.failed.is_empty() {
            bail!("failed: {}", self.failed.join(", "));
        }
        Ok(())
    }
}
