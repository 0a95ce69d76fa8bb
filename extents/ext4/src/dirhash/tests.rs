use std::fmt::Write as _;
use std::process::Command;

use super::*;

/// What debugfs calls the algorithms; the unsigned ones it knows by number only.
const ALGORITHMS: [(&str, HashVersion); 6] = [
    ("legacy", HashVersion::Legacy),
    ("half_md4", HashVersion::HalfMd4),
    ("tea", HashVersion::Tea),
    ("3", HashVersion::LegacyUnsigned),
    ("4", HashVersion::HalfMd4Unsigned),
    ("5", HashVersion::TeaUnsigned),
];

/// Asks debugfs for the hashes of many names in one run. Names must be free of quotes, spaces, `#` and NUL.
fn debugfs_hashes(arguments: &str, names: &[Vec<u8>]) -> Option<Vec<DirHash>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut script = Vec::new();
    for name in names {
        script.extend_from_slice(format!("dx_hash {arguments} ").as_bytes());
        script.extend_from_slice(name);
        script.push(b'\n');
    }
    std::fs::write(file.path(), script).unwrap();
    let output = Command::new("debugfs").arg("-f").arg(file.path()).output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: debugfs cannot be run: {error}");
            return None;
        }
    };
    // "Hash of NAME is 0x12345678 (minor 0x9abcdef0)"
    let marker = b" is 0x";
    let hashes: Vec<DirHash> = output
        .stdout
        .split(|&byte| byte == b'\n')
        .filter(|line| line.starts_with(b"Hash of "))
        .map(|line| {
            let place = line.windows(marker.len()).rposition(|window| window == marker).unwrap();
            let text = std::str::from_utf8(&line[place + marker.len()..]).unwrap();
            let (major, minor) = text.split_once(" (minor 0x").unwrap();
            DirHash {
                major: u32::from_str_radix(major, 16).unwrap(),
                minor: u32::from_str_radix(minor.trim_end_matches(')'), 16).unwrap(),
            }
        })
        .collect();
    assert_eq!(hashes.len(), names.len(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(hashes)
}

/// Names of every length to 255, of bytes that debugfs takes on its command line.
fn names() -> Vec<Vec<u8>> {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut names = Vec::new();
    for length in 1..=255_usize {
        for high in [0, 128] {
            names.push(
                (0..length)
                    .map(|_| {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let letter = b'a' + random.to_le_bytes()[3] % 26;
                        if random & 2 == 0 { letter } else { letter | high }
                    })
                    .collect(),
            );
        }
    }
    names
}

#[test]
fn hash_of_names_of_every_length_equals_debugfs() {
    for (seed, text) in [
        ([0; 4], "00000000-0000-0000-0000-000000000000"),
        (
            // The seed is a UUID on the disk, read as four little-endian words.
            [0x3322_1100, 0x7766_5544, 0xbbaa_9988, 0xffee_ddcc],
            "00112233-4455-6677-8899-aabbccddeeff",
        ),
    ] {
        for (algorithm, version) in ALGORITHMS {
            let names = names();
            let Some(expected) = debugfs_hashes(&format!("-h {algorithm} -s {text}"), &names) else { return };
            for (name, expected) in names.iter().zip(expected) {
                assert_eq!(hash(name, version, &seed), expected, "{algorithm} of {name:?}");
            }
        }
    }
}

#[test]
fn hash_of_the_end_of_directory_is_moved_out_of_its_way() {
    assert_eq!(normalize(u32::MAX), 0xffff_fffc);
    assert_eq!(normalize(0xffff_fffd), 0xffff_fffc);
    assert_eq!(normalize(7), 6);
}

#[test]
fn hash_version_of_every_number_is_the_kernels() {
    assert_eq!(HashVersion::from_disk(1, false), Some(HashVersion::HalfMd4));
    assert_eq!(HashVersion::from_disk(1, true), Some(HashVersion::HalfMd4Unsigned));
    assert_eq!(HashVersion::from_disk(4, false), Some(HashVersion::HalfMd4Unsigned));
    assert_eq!(HashVersion::from_disk(6, true), Some(HashVersion::SipHash));
    assert_eq!(HashVersion::from_disk(7, false), None);
}

/// Names that try every rule: each sampled code point between two others, so that marks have something to be
/// reordered around.
fn unicode_names(step: u32) -> Vec<String> {
    (0xa1..=0x10_ffff_u32)
        .filter(|code| *code < 0x3200 || (0xa640..0xac00).contains(code) || code.is_multiple_of(step))
        .chain([
            0xac00, 0xac01, 0xd7a3, 0xfb00, 0xfb13, 0xfe0f, 0xfeff, 0xffa0, 0x1e943, 0x10428, 0xe0001,
            0xe0100,
        ])
        .filter_map(char::from_u32)
        .map(|c| {
            let mut name = String::new();
            write!(name, "A\u{301}{c}\u{316}X{c}").unwrap();
            name
        })
        .collect()
}

fn folded_hash(name: &[u8]) -> DirHash {
    let folded = casefold(name);
    hash(folded.as_deref().unwrap_or(name), HashVersion::HalfMd4, &[0; 4])
}

#[test]
fn hash_of_casefolded_names_equals_debugfs() {
    let step = std::env::var("HOMIFS_UNICODE_STEP").map_or(37, |step| step.parse().unwrap());
    let names: Vec<Vec<u8>> = unicode_names(step).into_iter().map(String::into_bytes).collect();
    let Some(expected) = debugfs_hashes("-h half_md4 -c -e utf8", &names) else { return };
    let mut wrong = Vec::new();
    for (name, expected) in names.iter().zip(expected) {
        if folded_hash(name) != expected {
            wrong.push(String::from_utf8_lossy(name).chars().nth(2).map(u32::from));
        }
    }
    assert!(wrong.is_empty(), "{} differ, such as {:x?}", wrong.len(), &wrong[..wrong.len().min(40)]);
}

#[test]
fn casefold_of_names_that_differ_in_case_only_is_equal() {
    for (one, other) in [
        ("README", "readme"),
        ("Straße", "STRASSE"),
        ("ÉCOLE", "e\u{301}cole"),
        ("ΑΣ", "ας"),
        ("ﬁle", "FILE"),
        ("so\u{ad}ft", "SOFT"),
    ] {
        assert_eq!(casefold(one.as_bytes()), casefold(other.as_bytes()), "{one}");
    }
}

#[test]
fn casefold_of_bytes_that_are_no_utf8_is_none() {
    assert_eq!(casefold(b"A\xff\xfe"), None);
}

#[test]
fn casefold_of_what_unicode_12_does_not_know_changes_nothing_in_it() {
    // A letter of Unicode 14 that has a small form, and a mark of Unicode 13 that has a class.
    for unknown in ["\u{2c2f}", "\u{1abf}"] {
        assert_eq!(casefold(format!("A{unknown}").as_bytes()).unwrap(), format!("a{unknown}").as_bytes());
    }
}
