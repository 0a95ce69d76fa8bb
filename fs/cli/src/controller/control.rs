//! Commands to a controller that runs, from standard input.

use std::io::BufRead as _;
use std::sync::Arc;
use std::thread;

use crate::Result;
use crate::controller::namespaces::Served;
use crate::controller::say;
use crate::failure::Failure;

/// Takes commands until the input ends.
pub(crate) fn listen(served: Arc<Served>) -> Result {
    let work = move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if line.trim().is_empty() {
                continue;
            }
            let answer = match obey(&served, line.trim()) {
                Ok(told) => format!("ok {told}"),
                Err(failure) => format!("error {}", failure.message.replace('\n', " ")),
            };
            // Whoever does not listen any more does not ask any more either.
            if say(&answer).is_err() {
                return;
            }
        }
    };
    let started = thread::Builder::new().name("homifs-control".into()).spawn(work);
    started.map(drop).map_err(|error| Failure::io("cannot start a thread", &error))
}

/// Carries a command out; what there is to say about it.
fn obey(served: &Served, line: &str) -> Result<String> {
    let number = |text: &str| {
        text.trim()
            .parse::<u32>()
            .map_err(|_| Failure::plain(format!("{text:?} is no number of a namespace")))
    };
    match line.split_once(char::is_whitespace) {
        Some(("add", device)) => {
            let nsid = served.add(device.trim())?;
            Ok(format!("namespace {nsid} is {}", device.trim()))
        }
        Some(("remove", nsid)) => {
            let nsid = number(nsid)?;
            served.remove(nsid)?;
            Ok(format!("namespace {nsid} is gone"))
        }
        _ => Err(Failure::plain(format!("{line:?} is no command: add DEVICE, remove NSID"))),
    }
}
