//! The guest itself, without a device under test.

use std::time::Duration;

use anyhow::Result;
use oracle::skip_if;
use vm::{Guest, Kit};

#[test]
fn guest_booted_carries_files_in_and_gives_status_and_both_streams_back() -> Result<()> {
    skip_if!(Kit::find().err());
    let kit = Kit::find().map_err(anyhow::Error::msg)?;
    let folder = tempfile::tempdir()?;
    let mut guest = Guest::new(&kit).limit(Duration::from_secs(200));
    // The archive pads to four bytes, so a length of each remainder.
    let contents = ["", "a", "ab", "abc", "abcd", "a longer one\n"];
    for (number, text) in contents.iter().enumerate() {
        let file = folder.path().join(format!("file{number}"));
        std::fs::write(&file, text)?;
        guest = guest.carry(&file, &format!("file{number}"));
    }
    let mut running = guest.boot()?;
    for (number, text) in contents.iter().enumerate() {
        assert_eq!(running.run(&format!("cat /mnt/file{number}"))?.succeeded()?, *text, "file{number}");
    }
    let finished = running.run("echo out; echo err >&2; exit 7")?;
    assert_eq!((finished.status, &*finished.stdout, &*finished.stderr), (7, "out\n", "err\n"));
    let finished = running.run_within("echo begun; sleep 100", Duration::from_secs(2))?;
    assert_eq!((finished.status, &*finished.stdout), (124, "begun\n"), "a script that takes too long");
    // More than a line of the agent's port holds, and what a shell would take for its own.
    let long = "#'\"$(false)`\\\n".repeat(1000);
    let finished = running.run(&format!("cat <<'END'\n{long}END"))?;
    assert_eq!(finished.succeeded()?, long);
    running.power_off()?;

    let error = guest_with_bad_device(&kit).expect_err("QEMU has no such device");
    assert!(format!("{error:#}").contains("no-such-device"), "{error:#}");
    Ok(())
}

fn guest_with_bad_device(kit: &Kit) -> Result<()> {
    Guest::new(kit).device("no-such-device").boot().map(drop)
}
