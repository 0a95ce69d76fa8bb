//! Who may read what: by mode, by ACL, by the options of the mount.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::path::Path;

use anyhow::Result;
use mounts::{HomifsMount, Outcome, image_of, outcome};
use oracle::{KernelMount, machine, skip_if};

/// `nobody`, to whom the short ACL of the oracle's volumes grants reading.
const NOBODY: &str = "65534";
const SOMEBODY: &str = "12345";

/// Runs a program as another user without any privilege.
fn as_user(id: &str, program: &[&str], path: &Path) -> Result<Outcome> {
    let identity = ["--reuid", id, "--regid", id, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
    outcome("setpriv", identity.iter().chain(program).map(Path::new).chain([path]))
}

fn missing_setpriv() -> Option<String> {
    machine::cannot_mount_fuse()
        .or_else(|| (!machine::has_tool("setpriv")).then(|| "setpriv is not installed".to_owned()))
}

#[test]
fn modes_and_acls_grant_and_refuse_as_on_the_kernels_mount() -> Result<()> {
    skip_if!(missing_setpriv());
    for volume in ["ext4-default", "xfs-default"] {
        let (image, format) = image_of(volume)?;
        let (kernel, homifs) = (KernelMount::read_only(&image, format)?, HomifsMount::new(&image, "")?);
        // The folders of the tests belong to root alone.
        for root in [kernel.path(), homifs.path()] {
            let above = as_user(SOMEBODY, &["ls"], root)?;
            assert_eq!(above.code, Some(0), "{above:?}");
        }
        let mut refused = 0;
        for name in [
            "special/mode-0000",
            "special/mode-0001",
            "special/mode-0644",
            "special/mode-4711",
            "special/mode-7777",
            "special/directory-0000",
            "special/directory-1777",
            "special/directory-2755",
            "special/directory-0001/x",
            "special/owner-1",
            "attributes/acl-short",
            "attributes/acl-long",
            "attributes/acl-short-directory",
            "attributes/acl-long-directory/inherits",
            "attributes/acl-short-directory/inherits",
        ] {
            for user in [NOBODY, SOMEBODY, "1000", "1019"] {
                for program in [&["cat"][..], &["ls"], &["test", "-x"]] {
                    let [expected, found] =
                        [kernel.path(), homifs.path()].map(|root| as_user(user, program, &root.join(name)));
                    let (expected, found) = (expected?, found?);
                    assert_eq!(
                        found.code, expected.code,
                        "{volume}: {user} {program:?} {name}: {expected:?} {found:?}"
                    );
                    if program == ["cat"] {
                        assert_eq!(found.stdout, expected.stdout, "{volume}: {user} {name}");
                    }
                    refused += usize::from(found.code != Some(0));
                }
            }
        }
        assert!(refused > 20, "only {refused} refusals prove little");
    }
    Ok(())
}

#[test]
fn map_of_a_file_is_told_to_its_readers_only() -> Result<()> {
    skip_if!(
        missing_setpriv()
            .or_else(|| (!machine::has_tool("getfattr")).then(|| "getfattr is not installed".to_owned()))
    );
    let (image, _) = image_of("ext4-default")?;
    let homifs = HomifsMount::new(&image, "")?;
    let ask = ["getfattr", "--absolute-names", "--only-values", "-n", "homi.layout"];
    let granted = as_user(SOMEBODY, &ask, &homifs.join("special/mode-0644"))?;
    assert!(granted.code == Some(0) && granted.stdout.contains("extents="), "{granted:?}");
    let refused = as_user(SOMEBODY, &ask, &homifs.join("special/mode-0000"))?;
    assert!(refused.code != Some(0) && refused.stdout.is_empty(), "{refused:?}");
    Ok(())
}

#[test]
fn noallow_other_keeps_others_out() -> Result<()> {
    skip_if!(missing_setpriv());
    let (image, _) = image_of("ext4-default")?;
    let homifs = HomifsMount::new(&image, "noallow_other")?;
    assert!(homifs.join("special").is_dir());
    let refused = as_user(NOBODY, &["cat"], &homifs.join("special/mode-0644"))?;
    assert_ne!(refused.code, Some(0), "{refused:?}");
    Ok(())
}
