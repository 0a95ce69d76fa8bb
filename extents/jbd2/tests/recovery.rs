//! Recovers journals that the kernel and debugfs left, and compares every block with what e2fsck makes of them.

#[path = "recovery/volume.rs"]
mod volume;

use volume::{Journaled, Volume};

/// Names, contents and deletions enough that several transactions touch the same blocks.
fn busy(volume: &Volume) {
    for round in 0..3 {
        for file in 0..40 {
            volume.write(&format!("file{file}"), &vec![b'a' + round; 700 * (file + 1)]);
        }
        volume.sync();
        for file in (0..40).step_by(3) {
            volume.remove(&format!("file{file}"));
        }
        volume.sync();
    }
}

/// Makes a volume, works on it, stops it dead with what `stop` says, and compares the two recoveries.
fn compare(mkfs: &[&str], options: &str, work: impl Fn(&Volume)) {
    let Some(volume) = Volume::make(mkfs) else { return };
    let Some(mounted) = volume.mount(options) else { return };
    work(&volume);
    mounted.stop_dead();
    let counts = volume.compare_with_e2fsck();
    assert!(counts.transactions > 0 && counts.replayed > 0, "nothing to recover: {counts:?}");
}

#[test]
fn recover_of_plain_journals_equals_e2fsck() {
    compare(&["-b", "1024", "-O", "^metadata_csum,^64bit"], "", busy);
    compare(&["-b", "4096", "-O", "^metadata_csum,^64bit"], "", busy);
    compare(&["-b", "4096", "-O", "^metadata_csum,64bit"], "", busy);
    compare(&["-b", "2048", "-t", "ext3"], "", busy);
}

#[test]
fn recover_of_transaction_checksums_equals_e2fsck() {
    compare(&["-b", "1024", "-O", "^metadata_csum,^64bit"], "journal_checksum", busy);
    compare(
        &["-b", "4096", "-O", "^metadata_csum,64bit"],
        "journal_checksum,journal_async_commit,data=writeback",
        busy,
    );
}

#[test]
fn recover_of_block_checksums_equals_e2fsck() {
    compare(&["-b", "1024", "-O", "metadata_csum,64bit"], "", busy);
    compare(&["-b", "4096", "-O", "metadata_csum,^64bit"], "", busy);
    compare(&["-b", "4096", "-O", "metadata_csum,64bit"], "journal_async_commit,data=writeback", busy);
}

#[test]
fn recover_of_data_with_the_magic_in_front_restores_it() {
    let magic = |volume: &Volume| {
        let mut contents = 0xc03b_3998_u32.to_be_bytes().to_vec();
        contents.resize(4096, b'x');
        volume.write("escaped", &contents.repeat(9));
        volume.sync();
    };
    for features in ["^metadata_csum", "metadata_csum"] {
        compare(&["-b", "1024", "-O", features], "data=journal", magic);
        compare(&["-b", "4096", "-O", features], "data=journal", magic);
    }
}

#[test]
fn recover_of_blocks_that_were_directories_before_they_were_data_leaves_the_data() {
    let revoke = |volume: &Volume| {
        for directory in 0..20 {
            volume.make_directory(&format!("directory{directory}"));
            for file in 0..30 {
                volume.write(&format!("directory{directory}/a name that fills the block {file}"), b"");
            }
        }
        volume.sync();
        for directory in 0..20 {
            volume.remove(&format!("directory{directory}"));
        }
        volume.sync();
        // Freed directory blocks become data again.
        volume.write("data", &vec![b'D'; 2 << 20]);
        volume.sync();
    };
    for features in ["^metadata_csum,^64bit", "metadata_csum,64bit"] {
        // Large enough that nothing leaves the log meanwhile.
        let Some(volume) = Volume::make(&["-b", "1024", "-O", features, "-J", "size=6"]) else { return };
        let Some(mounted) = volume.mount("") else { return };
        revoke(&volume);
        mounted.stop_dead();
        let counts = volume.compare_with_e2fsck();
        assert!(counts.revokes > 0 && counts.revoked > 0, "nothing was revoked: {counts:?}");
    }
}

#[test]
fn recover_of_a_log_that_wrapped_equals_e2fsck() {
    for features in ["^metadata_csum", "metadata_csum,fast_commit"] {
        let Some(volume) = Volume::make(&["-b", "1024", "-O", features, "-J", "size=2"]) else { return };
        let Some(mounted) = volume.mount("data=journal") else { return };
        // Until the newest transaction lies before the oldest that has not reached the volume.
        for round in 0..200 {
            volume.write("round", &vec![round; 150_000]);
            volume.sync();
            if round % 4 == 3 && volume.log_has_wrapped() {
                break;
            }
        }
        mounted.stop_dead();
        assert!(volume.log_has_wrapped(), "the log did not wrap");
        volume.compare_with_e2fsck();
    }
}

#[test]
fn recover_of_transactions_whose_numbers_go_round_equals_e2fsck() {
    // The numbers of the first transactions of the log, from which it goes on past 0.
    for first in [0xffff_fffa_u32, 0xffff_fffe] {
        let Some(volume) = Volume::make(&["-b", "4096", "-O", "^metadata_csum,^64bit"]) else { return };
        volume.number_transactions_from(first);
        let Some(mounted) = volume.mount("") else { return };
        busy(&volume);
        mounted.stop_dead();
        let counts = volume.compare_with_e2fsck();
        assert!(counts.transactions > 3 && counts.transactions < 100, "{counts:?}");
    }
}

#[test]
fn recover_of_a_torn_tail_ends_where_e2fsck_ends() {
    for features in ["^metadata_csum", "metadata_csum"] {
        for options in ["", "journal_checksum"] {
            for damage in [Journaled::Descriptor, Journaled::Commit] {
                let Some(volume) = Volume::make(&["-b", "4096", "-O", features]) else { return };
                let Some(mounted) = volume.mount(options) else { return };
                busy(&volume);
                mounted.stop_dead();
                let before = volume.recover().transactions;
                volume.zero_last(damage);
                let counts = volume.compare_with_e2fsck();
                assert!(
                    counts.transactions < before && counts.transactions > 0,
                    "{features} {options} {counts:?}"
                );
            }
        }
    }
}

#[test]
fn recover_of_what_debugfs_wrote_in_every_version_equals_e2fsck() {
    for (features, version) in [
        ("^metadata_csum,^64bit", ""),
        ("^metadata_csum,64bit", ""),
        ("metadata_csum,^64bit", "-c -v 2"),
        ("metadata_csum,64bit", "-c -v 2"),
        ("metadata_csum,^64bit", "-c -v 3"),
        ("metadata_csum,64bit", "-c -v 3"),
    ] {
        let Some(volume) = Volume::make(&["-b", "4096", "-O", features]) else { return };
        let (first, second) = (volume.file(&[b'1'; 3 * 4096]), volume.file(&[b'2'; 4096]));
        volume.debugfs(&[
            &format!("journal_open {version}"),
            &format!("journal_write -b 1300,1301,1302 {first}"),
            "journal_write -r 1301",
            &format!("journal_write -b 1303 {second}"),
            "journal_close",
        ]);
        let counts = volume.compare_with_e2fsck();
        assert_eq!((counts.replayed, counts.revokes, counts.revoked), (3, 1, 1), "{version} {features}");
    }
}

#[test]
fn recover_of_a_block_that_does_not_match_its_checksum_is_refused() {
    let Some(volume) = Volume::make(&["-b", "4096", "-O", "metadata_csum"]) else { return };
    let Some(mounted) = volume.mount("") else { return };
    busy(&volume);
    mounted.stop_dead();
    volume.damage_first_data_block();
    let error = volume.try_recover().unwrap_err().to_string();
    assert!(error.contains("does not match its checksum"), "{error}");
}

#[test]
fn open_of_unknown_features_names_them() {
    let Some(volume) = Volume::make(&["-b", "4096", "-O", "^metadata_csum"]) else { return };
    let mut journal = volume.journal();
    journal[0x28..0x2c].copy_from_slice(&0x140_u32.to_be_bytes());
    let error = volume::open(&journal, 4096).unwrap_err().to_string();
    assert!(error.contains("0x140"), "{error}");
}

#[test]
fn recover_of_a_log_that_runs_in_a_circle_is_refused() {
    let Some(volume) = Volume::make(&["-b", "1024", "-O", "^metadata_csum,^64bit"]) else { return };
    let mut journal = volume.journal();
    let log = (u32::from_be_bytes(journal[16..20].try_into().unwrap()) - 1) as usize;
    // Descriptors without a commit, all the way round: each of them describes one block.
    journal[0x18..0x20].copy_from_slice(&[0, 0, 0, 7, 0, 0, 0, 1]);
    for block in 0..log {
        let at = 1024 * (block + 1);
        journal[at..at + 12].copy_from_slice(&[0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 1, 0, 0, 0, 7]);
        journal[at + 12..at + 20].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0x0a]);
    }
    match volume::open(&journal, 1024).unwrap().recover(1 << 20) {
        Ok(recovered) => assert_eq!(recovered.transactions, 0),
        Err(error) => assert!(error.to_string().contains("circle"), "{error}"),
    }
}
