//! PRPs and SGLs (Base, sections 4.3.1 and 4.3.2): what leads to the right bytes, and what leads nowhere.

mod host;

use engine_nvme_spec::{SglDescriptor, Sqe, Status, nvm};
use host::{Host, pattern};
use proptest::prelude::*;

fn host() -> Host {
    let (host, backing) = Host::ready();
    backing.region().write(0, &pattern(1, 4 << 20)).unwrap();
    host
}

#[test]
fn prps_with_offsets_that_cannot_be_are_refused() {
    let mut host = host();
    let at = host.memory.take(65536);
    let list = host.memory.words(&[at, at + 8, at + 8192]);
    let code = |host: &mut Host, blocks, first, second| {
        host.code(1, nvm::read(1, 0, blocks).with_prps(first, second))
    };
    assert_eq!(code(&mut host, 1, at + 2, 0), Status::PRP_OFFSET_INVALID);
    assert_eq!(code(&mut host, 16, at, at + 4096 + 512), Status::PRP_OFFSET_INVALID);
    assert_eq!(code(&mut host, 32, at, list + 4), Status::PRP_OFFSET_INVALID);
    assert_eq!(code(&mut host, 32, at, list), Status::PRP_OFFSET_INVALID, "the second entry of the list");
    assert_eq!(code(&mut host, 8, at + 4, at + 8192), Status::SUCCESS, "four bytes into a page");
}

#[test]
fn memory_that_is_not_mapped_is_a_data_transfer_error() {
    let mut host = host();
    let at = host.memory.take(4096);
    let past = host.memory.end() + (1 << 30);
    for (first, second) in [(past, 0), (0, 0), (!0xfff, 0)] {
        assert_eq!(host.code(1, nvm::read(1, 0, 8).with_prps(first, second)), Status::DATA_TRANSFER_ERROR);
        assert_eq!(host.code(1, nvm::write(1, 0, 8).with_prps(first, second)), Status::DATA_TRANSFER_ERROR);
    }
    assert_eq!(host.code(1, nvm::read(1, 0, 16).with_prps(at, past)), Status::DATA_TRANSFER_ERROR);
    assert_eq!(
        host.code(1, nvm::read(1, 0, 64).with_prps(at, past)),
        Status::DATA_TRANSFER_ERROR,
        "the list"
    );
}

#[test]
fn write_whose_memory_is_there_in_part_changes_nothing() {
    let (mut host, backing) = Host::ready();
    let at = host.memory.with(&pattern(2, 4096));
    let past = host.memory.end() + (1 << 30);
    assert_eq!(host.code(1, nvm::write(1, 0, 16).with_prps(at, past)), Status::DATA_TRANSFER_ERROR);
    let mut now = [1; 8192];
    backing.region().read(0, &mut now).unwrap();
    assert_eq!(now, [0; 8192]);
}

#[test]
fn list_that_leads_to_itself_comes_to_an_end() {
    let mut host = host();
    let at = host.memory.take(4096);
    let list = host.memory.take(4096);
    for place in (0..4096).step_by(8) {
        host.memory.write(list + place, &list.to_le_bytes());
    }
    // A megabyte, so that lists lead on; every list is the same one, of which only the last place leads on.
    let status = host.code(1, nvm::read(1, 0, 2047).with_prps(at, list + 4088));
    assert_eq!(status, Status::SUCCESS, "from its last place to its beginning, once");
    host.memory.write(list + 4088, &(list + 4088).to_le_bytes());
    assert_eq!(host.code(1, nvm::read(1, 0, 2047).with_prps(at, list + 4088)), Status::PRP_OFFSET_INVALID);
}

#[test]
fn sgls_that_cannot_be_are_refused_for_the_right_reason() {
    let mut host = host();
    let at = host.memory.take(65536);
    let segment = host.memory.take(4096);
    let code = |host: &mut Host, descriptor| host.code(1, nvm::read(1, 0, 8).with_sgl(descriptor));
    assert_eq!(code(&mut host, SglDescriptor::data_block(at, 4096)), Status::SUCCESS);
    assert_eq!(code(&mut host, SglDescriptor::data_block(at + 1, 4096)), Status::SUCCESS, "any alignment");
    assert_eq!(code(&mut host, SglDescriptor::data_block(at, 4095)), Status::SGL_LENGTH_INVALID);
    let unknown = SglDescriptor { identifier: 0x40, ..SglDescriptor::data_block(at, 4096) };
    assert_eq!(code(&mut host, unknown), Status::SGL_TYPE_INVALID);
    let offset = SglDescriptor { identifier: 0x01, ..SglDescriptor::data_block(at, 4096) };
    assert_eq!(code(&mut host, offset), Status::SGL_TYPE_INVALID);
    let cut = SglDescriptor { length: 17, ..SglDescriptor::segment(segment, 1, true) };
    assert_eq!(code(&mut host, cut), Status::INVALID_SGL_SEGMENT);
    // A segment that leads to itself.
    for place in (0..4096).step_by(16) {
        let [low, high] = SglDescriptor::segment(segment, 1, false).to_words();
        host.memory.write(segment + place, &[low.to_le_bytes(), high.to_le_bytes()].concat());
    }
    assert_eq!(code(&mut host, SglDescriptor::segment(segment, 1, false)), Status::INVALID_SGL_COUNT);
    assert_eq!(code(&mut host, SglDescriptor::segment(segment, 2, false)), Status::INVALID_SGL_SEGMENT);
    let reserved = Sqe { flags: 0xc0, ..nvm::read(1, 0, 8).with_prps(at, 0) };
    assert_eq!(host.code(1, reserved), Status::INVALID_FIELD);
}

#[test]
fn bit_bucket_swallows_what_nobody_wants() {
    let mut host = host();
    let at = host.memory.with(&[0xaa; 4096]);
    let descriptors = [
        SglDescriptor::bit_bucket(512),
        SglDescriptor::data_block(at, 1024),
        SglDescriptor::bit_bucket(2560),
    ];
    let words: Vec<u64> = descriptors.iter().flat_map(|descriptor| descriptor.to_words()).collect();
    let segment = host.memory.words(&words);
    host.io_ok(nvm::read(1, 0, 8).with_sgl(SglDescriptor::segment(segment, 3, true)));
    assert!(host.memory.read(at, 1024) == pattern(1, 4 << 20)[512..1536]);
    assert_eq!(host.memory.read(at + 1024, 3072), [0xaa; 3072]);
}

/// Splits a length into parts by cutting it at these places.
fn cut(length: usize, at: &[usize]) -> Vec<usize> {
    let mut places: Vec<usize> = at.iter().map(|place| place % length).chain([0, length]).collect();
    places.sort_unstable();
    places.dedup();
    places.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever pages in whatever order: each byte lands where the list says.
    #[test]
    fn prps_lead_to_the_right_bytes(
        slba in 0_u64..4000, blocks in 1_u16..1200, offset in 0_u64..1024, list_offset in 0_u64..512, seed: u64
    ) {
        let mut host = host();
        let length = usize::from(blocks) * 512;
        let offset = offset * 4;
        let pages = (offset + u64::try_from(length).unwrap()).div_ceil(4096);
        let base = host.memory.take(usize::try_from(pages).unwrap() * 4096);
        // In an order that is none.
        let mut order: Vec<u64> = (0..pages).collect();
        let shuffle = pattern(seed, 8 * order.len());
        order.sort_by_key(|page| {
            let at = usize::try_from(page * 8).unwrap();
            u64::from_le_bytes(shuffle[at..at + 8].try_into().unwrap())
        });
        let entries: Vec<u64> = order.iter().skip(1).map(|page| base + page * 4096).collect();
        let first = base + order[0] * 4096 + offset;
        let second = match entries.as_slice() {
            [] => 0,
            [only] => *only,
            many => {
                let start = host.memory.take(4096) + list_offset * 8;
                let mut at = start;
                for (place, entry) in many.iter().enumerate() {
                    if at % 4096 == 4088 && place + 1 < many.len() {
                        let next = host.memory.take(4096);
                        host.memory.write(at, &next.to_le_bytes());
                        at = next;
                    }
                    host.memory.write(at, &entry.to_le_bytes());
                    at += 8;
                }
                start
            }
        };
        host.io_ok(nvm::read(1, slba, blocks.into()).with_prps(first, second));
        let mut read = Vec::new();
        for (place, page) in order.iter().enumerate() {
            let skip = if place == 0 { offset } else { 0 };
            let left = length - read.len();
            let part = left.min(usize::try_from(4096 - skip).unwrap());
            read.extend(host.memory.read(base + page * 4096 + skip, part));
        }
        let from = usize::try_from(slba).unwrap() * 512;
        prop_assert!(read == pattern(1, 4 << 20)[from..from + length]);
    }

    /// Data blocks of any length and alignment over several segments, written and read back.
    #[test]
    fn sgls_lead_to_the_right_bytes(
        slba in 0_u64..4000, blocks in 1_u16..200, cuts in prop::collection::vec(any::<usize>(), 0..60),
        shift in 0_u64..4096, segment_length in 2_usize..12, seed: u64
    ) {
        let (mut host, backing) = Host::ready();
        let length = usize::from(blocks) * 512;
        let bytes = pattern(seed, length);
        let mut descriptors = Vec::new();
        let mut done = 0;
        for part in cut(length, &cuts) {
            let at = host.memory.take(part + 4096) + shift;
            host.memory.write(at, &bytes[done..done + part]);
            descriptors.push(SglDescriptor::data_block(at, u32::try_from(part).unwrap()));
            done += part;
        }
        // From the end: each segment but the last ends with a descriptor of the next.
        let mut next: Option<SglDescriptor> = None;
        while !descriptors.is_empty() {
            let keep = segment_length.min(descriptors.len());
            let mut segment = descriptors.split_off(descriptors.len() - keep);
            let last = next.is_none();
            segment.extend(next);
            let words: Vec<u64> = segment.iter().flat_map(|descriptor| descriptor.to_words()).collect();
            let at = host.memory.words(&words);
            next = Some(SglDescriptor::segment(at, u32::try_from(segment.len()).unwrap(), last));
        }
        let head = next.unwrap();
        host.io_ok(nvm::write(1, slba, blocks.into()).with_sgl(head));
        let mut stored = vec![0; length];
        backing.region().read(usize::try_from(slba).unwrap() * 512, &mut stored).unwrap();
        prop_assert!(stored == bytes);
    }
}
