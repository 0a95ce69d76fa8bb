//! The commands of I/O queues (NVM, section 3), each with what is right and what is wrong with it.

mod host;

use std::sync::Arc;

use engine_block::testing::MemoryDevice;
use engine_controller::backing::{BlockBacking, MemoryBacking};
use engine_controller::{Controller, ControllerOptions, NamespaceOptions, Subsystem};
use engine_nvme_spec::nvm::{self, CopyRange, DsmRange};
use engine_nvme_spec::{ANY_NAMESPACE, Sqe, Status};
use host::{Host, pattern};
use zerocopy::IntoBytes;

/// Blocks of the namespace of [`Host::ready`].
const BLOCKS: u64 = (16 << 20) / 512;

fn contents(backing: &MemoryBacking, block: u64, blocks: usize) -> Vec<u8> {
    let mut bytes = vec![0; blocks * 512];
    backing.region().read(usize::try_from(block).unwrap() * 512, &mut bytes).unwrap();
    bytes
}

#[test]
fn write_then_read_gives_the_same_bytes_and_touches_no_others() {
    let (mut host, backing) = Host::ready();
    let bytes = pattern(1, 8192);
    let source = host.memory.with(&bytes);
    host.io_ok(nvm::write(1, 100, 16).with_prps(source, source + 4096));
    assert!(contents(&backing, 100, 16) == bytes);
    assert_eq!(contents(&backing, 99, 1), [0; 512]);
    assert_eq!(contents(&backing, 116, 1), [0; 512]);
    let target = host.memory.with(&pattern(2, 12288));
    host.io_ok(nvm::read(1, 101, 7).with_prps(target + 4096, 0));
    let back = host.memory.read(target, 12288);
    assert!(back[4096..4096 + 7 * 512] == bytes[512..8 * 512]);
    assert!(back[..4096] == pattern(2, 12288)[..4096]);
    assert!(back[4096 + 7 * 512..] == pattern(2, 12288)[4096 + 7 * 512..]);
}

#[test]
fn blocks_past_the_end_are_out_of_range_for_every_command() {
    let (mut host, _) = Host::ready();
    let at = host.memory.take(8192);
    type Make = fn(u32, u64, u32) -> Sqe;
    let commands: [(&str, Make); 5] = [
        ("read", nvm::read),
        ("write", nvm::write),
        ("compare", nvm::compare),
        ("verify", nvm::verify),
        ("write zeroes", |nsid, slba, blocks| nvm::write_zeroes(nsid, slba, blocks, true)),
    ];
    for (what, command) in commands {
        for (slba, blocks, status) in [
            (BLOCKS - 1, 1, Status::SUCCESS),
            (BLOCKS - 1, 2, Status::LBA_OUT_OF_RANGE),
            (BLOCKS, 1, Status::LBA_OUT_OF_RANGE),
            (u64::MAX, 1, Status::LBA_OUT_OF_RANGE),
            (u64::MAX - 1, 16, Status::LBA_OUT_OF_RANGE),
            (1 << 55, 8, Status::LBA_OUT_OF_RANGE),
        ] {
            let found = host.code(1, command(1, slba, blocks).with_prps(at, at + 4096));
            assert_eq!(found, status, "{what} of {blocks} at {slba:#x}");
        }
    }
}

#[test]
fn namespace_that_is_not_there_is_invalid_for_every_command() {
    let (mut host, _) = Host::ready();
    let at = host.memory.take(4096);
    for nsid in [0, 2, 1024, 1025, u32::MAX - 1] {
        for sqe in [
            nvm::read(nsid, 0, 1),
            nvm::write(nsid, 0, 1),
            nvm::compare(nsid, 0, 1),
            nvm::verify(nsid, 0, 1),
            nvm::write_zeroes(nsid, 0, 1, false),
            nvm::dataset_management(nsid, 1, nvm::DSM_DEALLOCATE),
            nvm::copy(nsid, 0, 1),
            nvm::flush(nsid),
        ] {
            let found = host.code(1, sqe.with_prps(at, 0));
            assert_eq!(found, Status::INVALID_NAMESPACE, "{sqe:?}");
        }
    }
    assert_eq!(host.code(1, nvm::read(ANY_NAMESPACE, 0, 1).with_prps(at, 0)), Status::INVALID_NAMESPACE);
}

#[test]
fn commands_that_there_are_not_are_invalid_opcodes() {
    let (mut host, _) = Host::ready();
    for opcode in [0x03, 0x04, 0x0d, 0x0e, 0x11, 0x15, 0x7f, 0x80, 0xff] {
        assert_eq!(host.code(1, Sqe::new(opcode, 1)), Status::INVALID_OPCODE, "{opcode:#x}");
    }
}

#[test]
fn transfer_longer_than_mdts_is_an_invalid_field() {
    let options = ControllerOptions { mdts: 1, ..ControllerOptions::default() };
    let (mut host, _) = Host::ready_with(options);
    let at = host.memory.take(16384);
    let list = host.memory.words(&[at + 4096, at + 8192]);
    assert_eq!(host.code(1, nvm::read(1, 0, 16).with_prps(at, at + 4096)), Status::SUCCESS);
    assert_eq!(host.code(1, nvm::read(1, 0, 17).with_prps(at, list)), Status::INVALID_FIELD);
    assert_eq!(host.code(1, nvm::write(1, 0, 17).with_prps(at, list)), Status::INVALID_FIELD);
    // Verify has a limit of its own, which is the same. No data goes over for the other.
    assert_eq!(host.code(1, nvm::verify(1, 0, 16)), Status::SUCCESS);
    assert_eq!(host.code(1, nvm::verify(1, 0, 17)), Status::INVALID_FIELD);
    assert_eq!(host.code(1, nvm::write_zeroes(1, 0, 1000, false)), Status::SUCCESS);
}

#[test]
fn fused_commands_are_refused() {
    let (mut host, _) = Host::ready();
    let at = host.memory.take(4096);
    for fuse in 1..=3 {
        let sqe = Sqe { flags: fuse, ..nvm::compare(1, 0, 1).with_prps(at, 0) };
        assert_eq!(host.code(1, sqe), Status::INVALID_FIELD, "{fuse}");
        let sqe = Sqe { flags: fuse, ..nvm::write(1, 0, 1).with_prps(at, 0) };
        assert_eq!(host.code(1, sqe), Status::INVALID_FIELD, "{fuse}");
    }
}

#[test]
fn read_only_namespace_takes_no_changes_and_gives_its_data() {
    let backing = MemoryBacking::new(1 << 20).unwrap();
    backing.region().write(512, &pattern(3, 512)).unwrap();
    let options = NamespaceOptions { read_only: true, ..NamespaceOptions::new(Arc::new(backing.clone())) };
    let subsystem = Subsystem::builder().namespace(options).build().unwrap();
    let mut host = Host::new(ControllerOptions::default(), subsystem);
    host.enable();
    host.create_pair(1, 16);
    let at = host.memory.with(&pattern(4, 4096));
    let ranges = host.memory.with(DsmRange { blocks: 8.into(), ..DsmRange::default() }.as_bytes());
    let sources = host.memory.with(CopyRange::default().as_bytes());
    for sqe in [
        nvm::write(1, 0, 1).with_prps(at, 0),
        nvm::write_zeroes(1, 0, 1, false),
        nvm::dataset_management(1, 1, nvm::DSM_DEALLOCATE).with_prps(ranges, 0),
        nvm::copy(1, 8, 1).with_prps(sources, 0),
    ] {
        assert_eq!(host.code(1, sqe), Status::NAMESPACE_WRITE_PROTECTED, "{sqe:?}");
    }
    host.io_ok(nvm::read(1, 1, 1).with_prps(at, 0));
    assert!(host.memory.read(at, 512) == pattern(3, 512));
    host.io_ok(nvm::flush(1));
}

#[test]
fn write_zeroes_leaves_zeros_and_nothing_else() {
    for deallocate in [false, true] {
        let (mut host, backing) = Host::ready();
        backing.region().fill(0, 64 * 512, 0xee).unwrap();
        host.io_ok(nvm::write_zeroes(1, 8, 32, deallocate));
        assert_eq!(contents(&backing, 8, 32), [0; 32 * 512]);
        assert_eq!(contents(&backing, 7, 1), [0xee; 512]);
        assert_eq!(contents(&backing, 40, 1), [0xee; 512]);
    }
}

#[test]
fn ranges_deallocated_are_checked_all_and_then_freed() {
    let (mut host, backing) = Host::ready();
    backing.region().fill(0, 64 * 512, 0xee).unwrap();
    let range =
        |slba: u64, blocks: u32| DsmRange { attributes: 0.into(), blocks: blocks.into(), slba: slba.into() };
    let good = [range(0, 8), range(16, 8)];
    let bad = [range(32, 8), range(BLOCKS - 1, 2)];
    let (good, bad) = (host.memory.with(good.as_bytes()), host.memory.with(bad.as_bytes()));
    let manage = |flags, at: u64| nvm::dataset_management(1, 2, flags).with_prps(at, 0);
    assert_eq!(host.code(1, manage(nvm::DSM_DEALLOCATE, bad)), Status::LBA_OUT_OF_RANGE);
    host.io_ok(manage(nvm::DSM_READ, good));
    assert_eq!(contents(&backing, 0, 64), [0xee; 64 * 512], "neither freed anything");
    host.io_ok(manage(nvm::DSM_DEALLOCATE, good));
    assert_eq!(contents(&backing, 0, 8), [0; 8 * 512]);
    assert_eq!(contents(&backing, 8, 8), [0xee; 8 * 512]);
    assert_eq!(contents(&backing, 16, 8), [0; 8 * 512]);
    assert_eq!(contents(&backing, 24, 40), [0xee; 40 * 512]);
}

#[test]
fn compare_tells_the_same_from_different() {
    let (mut host, backing) = Host::ready();
    let bytes = pattern(5, 4096);
    backing.region().write(0, &bytes).unwrap();
    let at = host.memory.with(&bytes);
    assert_eq!(host.code(1, nvm::compare(1, 0, 8).with_prps(at, 0)), Status::SUCCESS);
    backing.region().write(4095, &[bytes[4095] ^ 1]).unwrap();
    assert_eq!(host.code(1, nvm::compare(1, 0, 8).with_prps(at, 0)), Status::COMPARE_FAILURE);
    assert_eq!(host.code(1, nvm::compare(1, 0, 7).with_prps(at, 0)), Status::SUCCESS);
}

#[test]
fn copy_puts_ranges_one_after_the_other_also_where_they_overlap() {
    let (mut host, backing) = Host::ready();
    let bytes = pattern(6, 64 * 512);
    backing.region().write(0, &bytes).unwrap();
    let range = |slba: u64, blocks: u16| CopyRange {
        slba: slba.into(),
        blocks: (blocks - 1).into(),
        ..CopyRange::default()
    };
    let sources = host.memory.with([range(10, 5), range(0, 3), range(8, 4)].as_bytes());
    host.io_ok(nvm::copy(1, 9, 3).with_prps(sources, 0));
    let mut right = bytes.clone();
    let wanted = [&bytes[10 * 512..15 * 512], &bytes[..3 * 512], &bytes[8 * 512..12 * 512]].concat();
    right[9 * 512..21 * 512].copy_from_slice(&wanted);
    assert!(contents(&backing, 0, 64) == right);
    let far = host.memory.with([range(BLOCKS - 1, 2)].as_bytes());
    assert_eq!(host.code(1, nvm::copy(1, 0, 1).with_prps(far, 0)), Status::LBA_OUT_OF_RANGE);
    let near = host.memory.with([range(0, 2)].as_bytes());
    assert_eq!(host.code(1, nvm::copy(1, BLOCKS - 1, 1).with_prps(near, 0)), Status::LBA_OUT_OF_RANGE);
    let sqe = nvm::copy(1, 0, 1).with_prps(near, 0);
    let format = Sqe { cdw12: (sqe.cdw12.get() | 5 << 8).into(), ..sqe };
    assert_eq!(host.code(1, format), Status::INVALID_FIELD, "a format that is not there");
    assert!(contents(&backing, 0, 64) == right);
}

/// A namespace over a device that fails when told to.
fn over_device(blocks: u32) -> (Host, MemoryDevice) {
    let device = MemoryDevice::new(pattern(7, 1 << 20)).writable().with_blocks(blocks);
    let backing = BlockBacking::new(Arc::new(device.clone()));
    let options = NamespaceOptions { block_size: blocks, ..NamespaceOptions::new(Arc::new(backing)) };
    let subsystem = Subsystem::builder().namespace(options).build().unwrap();
    let mut host = Host::of(Controller::new(ControllerOptions::default(), subsystem).unwrap());
    host.enable();
    host.create_pair(1, 64);
    (host, device)
}

#[test]
fn device_behind_a_namespace_is_read_and_written_with_blocks_of_4096_too() {
    for block in [512, 4096] {
        let (mut host, device) = over_device(block);
        let blocks = 16384 / block;
        let at = host.memory.take(16384 + 4096);
        let list = host.memory.words(&[at + 4096, at + 8192, at + 12288, at + 16384]);
        host.io_ok(nvm::read(1, 2, blocks).with_prps(at + 512, list));
        let from = usize::try_from(2 * block).unwrap();
        assert!(host.memory.read(at + 512, 16384) == device.contents()[from..from + 16384]);
        host.memory.write(at, &pattern(8, 16384));
        host.io_ok(nvm::write(1, 3, blocks).with_prps(at, list));
        let to = usize::try_from(3 * block).unwrap();
        assert!(device.contents()[to..to + 16384] == pattern(8, 16384));
    }
}

#[test]
fn failures_of_a_device_are_media_errors_of_the_commands_that_met_them() {
    let (mut host, device) = over_device(512);
    let at = host.memory.take(4096);
    device.fail(4096..4608, 5);
    assert_eq!(host.code(1, nvm::read(1, 8, 1).with_prps(at, 0)), Status::UNRECOVERED_READ_ERROR);
    assert_eq!(host.code(1, nvm::write(1, 8, 1).with_prps(at, 0)), Status::WRITE_FAULT);
    assert_eq!(host.code(1, nvm::verify(1, 0, 16)), Status::UNRECOVERED_READ_ERROR);
    assert_eq!(host.code(1, nvm::compare(1, 8, 1).with_prps(at, 0)), Status::UNRECOVERED_READ_ERROR);
    assert_eq!(host.code(1, nvm::read(1, 9, 1).with_prps(at, 0)), Status::SUCCESS);
    device.fail_flushes(5);
    assert!(!host.code(1, nvm::flush(1)).is_success());
    device.heal();
    assert_eq!(host.code(1, nvm::flush(1)), Status::SUCCESS);
}

#[test]
fn what_was_flushed_or_forced_survives_the_power_and_the_rest_need_not() {
    let (mut host, device) = over_device(512);
    let at = host.memory.with(&pattern(9, 512));
    host.io_ok(nvm::write(1, 0, 1).with_prps(at, 0));
    host.io_ok(nvm::flush(ANY_NAMESPACE));
    let forced = nvm::write(1, 1, 1).with_prps(at, 0);
    host.io_ok(Sqe { cdw12: (forced.cdw12.get() | nvm::FORCE_UNIT_ACCESS).into(), ..forced });
    host.io_ok(nvm::write(1, 2, 1).with_prps(at, 0));
    device.lose_power();
    assert!(device.contents()[..512] == pattern(9, 512));
    assert!(device.contents()[512..1024] == pattern(9, 512));
    assert!(device.contents()[1024..1536] == pattern(7, 1 << 20)[1024..1536]);
}

#[test]
fn forced_write_among_others_in_flight_is_answered_once_and_so_are_they() {
    let (mut host, device) = over_device(512);
    device.delay(std::time::Duration::from_millis(2));
    let at = host.memory.take(4096);
    let mut sent: Vec<u16> = Vec::new();
    for number in 0..40_u64 {
        let sqe = nvm::write(1, number, 1).with_prps(at, 0);
        let flags = if number % 7 == 3 { nvm::FORCE_UNIT_ACCESS } else { 0 };
        sent.push(host.submit(1, Sqe { cdw12: (sqe.cdw12.get() | flags).into(), ..sqe }));
    }
    let mut seen: Vec<u16> = Vec::new();
    while seen.len() < sent.len() {
        let entry = host.wait(1);
        assert!(entry.status().is_success(), "{entry:?}");
        seen.push(entry.cid.get());
    }
    seen.sort_unstable();
    assert_eq!(seen, sent);
    assert!(host.is_quiet(1));
}

#[test]
fn reset_while_a_device_works_waits_and_nothing_is_answered_or_written_after() {
    let (mut host, device) = over_device(512);
    device.delay(std::time::Duration::from_millis(50));
    let at = host.memory.take(4096);
    for block in 0..8 {
        host.submit(1, nvm::read(1, block, 1).with_prps(at, 0));
    }
    host.look(1);
    engine_transport::Transport::reset(&*host.transport).unwrap();
    host.memory.write(at, &[0x11; 4096]);
    std::thread::sleep(std::time::Duration::from_millis(80));
    assert_eq!(host.memory.read(at, 4096), [0x11; 4096]);
    assert!(host.pair(1).take().is_none());
}
