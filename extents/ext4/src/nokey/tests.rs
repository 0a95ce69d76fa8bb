use super::*;

fn ciphertext(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 37 + 11).to_le_bytes()[0]).collect()
}

const HASH: DirHash = DirHash { major: 0x1234_5678, minor: 0x9abc_def0 };

#[test]
fn encode_every_length_decodes_to_a_match_of_that_entry_only() {
    for length in 16..=255 {
        let entry = ciphertext(length);
        let name = encode(&entry, HASH).unwrap();
        assert!(name.len() <= 255 && !name.contains(&b'/'), "{length}");
        let decoded = NoKeyName::decode(&name).unwrap();
        assert_eq!(decoded.hash(), HASH);
        assert_eq!(decoded.ciphertext().is_some(), length <= 149);
        assert!(decoded.matches(&entry), "{length}");
        let mut other = entry.clone();
        other[length - 1] ^= 1;
        assert!(!decoded.matches(&other), "{length}");
        assert!(!decoded.matches(&ciphertext(length - 1)), "{length}");
        assert!(!decoded.matches(&ciphertext(length + 1)), "{length}");
    }
}

#[test]
fn encode_dots_are_shown_as_they_are() {
    assert_eq!(encode(b".", HASH).unwrap(), b".");
    assert_eq!(encode(b"..", HASH).unwrap(), b"..");
}

#[test]
fn encode_ciphertext_shorter_than_a_cipher_block_is_refused() {
    assert_eq!(encode(&ciphertext(15), HASH), None);
}

#[test]
fn decode_names_that_no_entry_has_give_nothing() {
    for name in
        [&b""[..], b"a", b"AAAAAAAAAAA", b"AAAAAAAAAAAA=", b"no/such name", &[b'A'; 255], b"\xff\xff\xff\xff"]
    {
        assert_eq!(NoKeyName::decode(name), None, "{name:?}");
    }
    // Between the longest plain form (157 bytes) and the long form (189 bytes) there is nothing.
    for length in [158, 188] {
        assert_eq!(NoKeyName::decode(URL_SAFE_NO_PAD.encode(vec![1; length]).as_bytes()), None, "{length}");
    }
}
