//! Messages against bytes that others' headers make: each line is what a C compiler makes of the structures of
//! libvfio-user's `vfio-user.h` and of `<linux/vfio.h>`, filled with the values named.

use engine_vfio_user::pci;
use engine_vfio_user::wire::{
    Area, Capabilities, CapabilityHeader, Command, DeviceFeature, DeviceInfo, DmaAccess, DmaMap, DmaUnmap,
    Header, IrqInfo, IrqSet, MigrationData, RegionAccess, RegionInfo, RegionIoFds, RegionWrite, SparseAreas,
    TwinSocket, device_flag, flag, irq_flag, irq_set_flag, map_flag, read_version, region_flag, unmap_flag,
    write_version,
};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

fn bytes(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
#[cfg(target_endian = "little")]
fn structures_have_the_bytes_of_the_c_headers() {
    let header = Header::command(0x1234, Command::REGION_WRITE, 20, flag::NO_REPLY);
    assert_eq!(header.as_bytes(), bytes("34 12 0a 00 24 00 00 00 10 00 00 00 00 00 00 00"));
    let refusal = Header::command(0x1234, Command::DMA_MAP, 32, 0).refusal(22);
    assert_eq!(refusal.as_bytes(), bytes("34 12 02 00 10 00 00 00 21 00 00 00 16 00 00 00"));
    let map = DmaMap {
        argsz: 32.into(),
        flags: (map_flag::READ | map_flag::WRITE).into(),
        offset: 0x1122_3344_5566_7788.into(),
        address: 0x99aa_bbcc_ddee_ff00.into(),
        size: 0x20_0000.into(),
    };
    let expected =
        "20 00 00 00 03 00 00 00 88 77 66 55 44 33 22 11 00 ff ee dd cc bb aa 99 00 00 20 00 00 00 00 00";
    assert_eq!(map.as_bytes(), bytes(expected));
    let unmap = DmaUnmap {
        argsz: 24.into(),
        flags: unmap_flag::ALL.into(),
        address: 0x0102_0304_0506_0708.into(),
        size: 0x1000.into(),
    };
    let expected = "18 00 00 00 02 00 00 00 08 07 06 05 04 03 02 01 00 10 00 00 00 00 00 00";
    assert_eq!(unmap.as_bytes(), bytes(expected));
    let device = DeviceInfo {
        argsz: 16.into(),
        flags: (device_flag::RESET | device_flag::PCI).into(),
        regions: pci::REGIONS.into(),
        irqs: pci::IRQS.into(),
    };
    assert_eq!(device.as_bytes(), bytes("10 00 00 00 03 00 00 00 09 00 00 00 05 00 00 00"));
    let region = RegionInfo {
        argsz: 64.into(),
        flags: (region_flag::READ | region_flag::WRITE | region_flag::MMAP | region_flag::CAPS).into(),
        index: pci::BAR4_REGION.into(),
        cap_offset: 32.into(),
        size: 0x4000.into(),
        offset: 0x1_0000.into(),
    };
    let expected =
        "40 00 00 00 0f 00 00 00 04 00 00 00 20 00 00 00 00 40 00 00 00 00 00 00 00 00 01 00 00 00 00 00";
    assert_eq!(region.as_bytes(), bytes(expected));
    let capability = CapabilityHeader { id: SparseAreas::ID.into(), version: 1.into(), next: 0x40.into() };
    assert_eq!(capability.as_bytes(), bytes("01 00 01 00 40 00 00 00"));
    let area = Area { offset: 0x1000.into(), size: 0x2000.into() };
    assert_eq!(area.as_bytes(), bytes("00 10 00 00 00 00 00 00 00 20 00 00 00 00 00 00"));
}

#[test]
#[cfg(target_endian = "little")]
fn structures_of_interrupts_and_accesses_have_the_bytes_of_the_c_headers() {
    let irqs = IrqInfo {
        argsz: 16.into(),
        flags: (irq_flag::EVENTFD | irq_flag::NORESIZE).into(),
        index: pci::MSIX_IRQ.into(),
        count: 33.into(),
    };
    assert_eq!(irqs.as_bytes(), bytes("10 00 00 00 09 00 00 00 02 00 00 00 21 00 00 00"));
    let set = IrqSet {
        argsz: 20.into(),
        flags: (irq_set_flag::DATA_EVENTFD | irq_set_flag::ACTION_TRIGGER).into(),
        index: pci::MSIX_IRQ.into(),
        start: 3.into(),
        count: 4.into(),
    };
    assert_eq!(set.as_bytes(), bytes("14 00 00 00 24 00 00 00 02 00 00 00 03 00 00 00 04 00 00 00"));
    let access = RegionAccess { offset: 0x14.into(), region: pci::CONFIG_REGION.into(), count: 4.into() };
    assert_eq!(access.as_bytes(), bytes("14 00 00 00 00 00 00 00 07 00 00 00 04 00 00 00"));
    let dma = DmaAccess { address: 0xab_cdef.into(), count: 0x1000.into() };
    assert_eq!(dma.as_bytes(), bytes("ef cd ab 00 00 00 00 00 00 10 00 00 00 00 00 00"));
    let fds = RegionIoFds { argsz: 16.into(), flags: 0.into(), index: 2.into(), count: 0.into() };
    assert_eq!(fds.as_bytes(), bytes("10 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00"));
    let feature = DeviceFeature { argsz: 16.into(), flags: ((1 << 16) | 2).into() };
    assert_eq!(feature.as_bytes(), bytes("10 00 00 00 02 00 01 00"));
    let data = MigrationData { argsz: 24.into(), size: 16.into() };
    assert_eq!(data.as_bytes(), bytes("18 00 00 00 10 00 00 00"));
    // By the tables of "VFIO_USER_REGION_WRITE_MULTI"; the C headers have no structure for it.
    let write = RegionWrite { access, data: [1, 2, 3, 4, 5, 6, 7, 8] };
    let expected = "14 00 00 00 00 00 00 00 07 00 00 00 04 00 00 00 01 02 03 04 05 06 07 08";
    assert_eq!(write.as_bytes(), bytes(expected));
}

#[test]
fn commands_have_the_numbers_of_the_specification() {
    let commands = [
        Command::VERSION,
        Command::DMA_MAP,
        Command::DMA_UNMAP,
        Command::DEVICE_GET_INFO,
        Command::DEVICE_GET_REGION_INFO,
        Command::DEVICE_GET_REGION_IO_FDS,
        Command::DEVICE_GET_IRQ_INFO,
        Command::DEVICE_SET_IRQS,
        Command::REGION_READ,
        Command::REGION_WRITE,
        Command::DMA_READ,
        Command::DMA_WRITE,
        Command::DEVICE_RESET,
        Command::DIRTY_PAGES,
        Command::REGION_WRITE_MULTI,
        Command::DEVICE_FEATURE,
        Command::MIG_DATA_READ,
        Command::MIG_DATA_WRITE,
    ];
    assert_eq!(commands.map(|command| command.0).to_vec(), (1..=18).collect::<Vec<u16>>());
}

#[test]
fn version_of_libvfio_users_form_is_read() {
    let text = br#"{ "capabilities": { "max_msg_fds": 8, "max_data_xfer_size": 1048576, "twin_socket": { "supported": true, "fd_index": 0 } } }"#;
    let body = [&[0, 0, 1, 0], text.as_slice(), &[0]].concat();
    let (major, minor, capabilities) = read_version(&body).unwrap();
    let expected = Capabilities {
        max_msg_fds: Some(8),
        max_data_xfer_size: Some(1 << 20),
        twin_socket: Some(TwinSocket { supported: true, fd_index: Some(0) }),
        ..Capabilities::default()
    };
    assert_eq!((major, minor, capabilities), (0, 1, Some(expected)));
}

#[test]
fn version_malformed_is_refused() {
    for body in [
        &[][..],
        &[0],
        &[0, 0, 1],
        &[0, 0, 1, 0, b'{', b'}'],
        &[0, 0, 1, 0, 0],
        &[0, 0, 1, 0, b'[', 0],
        b"\0\0\x01\0{\"capabilities\":{\"max_msg_fds\":-1}}\0",
        b"\0\0\x01\0{\"capabilities\":{\"twin_socket\":true}}\0",
        b"\0\0\x01\0{\"capabilities\":{\"max_msg_fds\":\"many\"}}\0",
        b"\0\0\x01\0\xff\xfe\0",
    ] {
        assert!(read_version(body).is_err(), "{body:?}");
    }
    assert_eq!(read_version(&[0, 0, 1, 0]).unwrap(), (0, 1, None));
    assert_eq!(read_version(b"\0\0\x01\0{}\0").unwrap(), (0, 1, Some(Capabilities::default())));
    let unknown = b"\0\0\x01\0{\"capabilities\":{\"colour\":\"blue\"},\"more\":1}\0";
    assert_eq!(read_version(unknown).unwrap(), (0, 1, Some(Capabilities::default())));
}

proptest! {
    #[test]
    fn header_of_any_bytes_reads_back_and_says_what_it_is(raw in any::<[u8; 16]>()) {
        let header = Header::read_from_bytes(&raw).unwrap();
        prop_assert_eq!(header.as_bytes(), &raw);
        let kind = u32::from_ne_bytes(raw[8..12].try_into().unwrap()) % 16;
        prop_assert_eq!(header.is_reply(), match kind { 0 => Some(false), 1 => Some(true), _ => None });
        let reply = header.reply(7);
        prop_assert_eq!((reply.id, reply.command, reply.is_reply()), (header.id, header.command, Some(true)));
        prop_assert!(!reply.has(flag::ERROR) && header.refusal(5).has(flag::ERROR));
    }

    #[test]
    fn version_written_reads_back(
        numbers in any::<[Option<u64>; 4]>(), minor in any::<u16>(), multiple in any::<Option<bool>>(),
    ) {
        let capabilities = Capabilities {
            max_msg_fds: numbers[0],
            max_data_xfer_size: numbers[1],
            max_dma_maps: numbers[2],
            pgsizes: numbers[3],
            write_multiple: multiple,
            ..Capabilities::default()
        };
        let body = write_version(0, minor, &capabilities);
        prop_assert_eq!(read_version(&body).unwrap(), (0, minor, Some(capabilities)));
    }

    #[test]
    fn version_of_any_bytes_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = read_version(&body);
    }
}
