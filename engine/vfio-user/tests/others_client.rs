//! The server against a client that others wrote: that of the `vfio_user` crate, as Cloud Hypervisor has it.

#[path = "peers/device.rs"]
mod device;

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use device::serve;
use engine_dma::{Access, PAGE, Region};
use engine_transport::Interrupt;
use engine_vfio_user::pci;
use engine_vfio_user::wire::{irq_set_flag, region_flag};
use vfio_user::Client;

#[test]
fn client_of_others_finds_registers_memory_doorbells_and_interrupts() {
    let place = tempfile::tempdir().unwrap();
    let (device, server) = serve(place.path());
    let mut client = Client::new(server.socket()).unwrap();

    let bar = client.region(pci::BAR0_REGION).unwrap();
    let everything = region_flag::READ | region_flag::WRITE | region_flag::MMAP | region_flag::CAPS;
    assert_eq!((bar.size, bar.flags), (0x4000, everything));
    let [area] = bar.sparse_areas.as_slice() else { panic!("{:?}", bar.sparse_areas) };
    assert_eq!((area.offset, area.size), (0x1000, 0x2000));
    let file = bar.file_offset.as_ref().unwrap();
    let doorbells = file.file().as_fd().try_clone_to_owned().unwrap();
    let doorbells = Region::map(doorbells, file.start() + area.offset, 0x2000, Access::ReadWrite).unwrap();
    doorbells.write(4, &[1, 2, 3, 4]).unwrap();
    assert_eq!(device.function().doorbells.load_u32(4), Some(0x0403_0201));

    let mut config = [0; 64];
    client.region_read(pci::CONFIG_REGION, 0, &mut config).unwrap();
    assert_eq!((&config[..2], &config[9..12]), (&[0x36, 0x1b][..], &[2, 8, 1][..]));
    client.region_write(pci::CONFIG_REGION, pci::COMMAND, &6_u16.to_le_bytes()).unwrap();

    let memory = Region::shared(c"client", 16 * PAGE).unwrap();
    let (file, _) = memory.file().unwrap();
    memory.write(8192, &7_u32.to_le_bytes()).unwrap();
    client.dma_map(4096, 0x10_0000, 8 * 4096, file.as_raw_fd()).unwrap();
    client.region_write(pci::BAR0_REGION, 0x48, &(0x10_0000_u64 + 4096).to_le_bytes()).unwrap();
    client.region_write(pci::BAR0_REGION, 0x40, &1_u32.to_le_bytes()).unwrap();
    let mut sum = [0; 4];
    client.region_read(pci::BAR0_REGION, 0x50, &mut sum).unwrap();
    assert_eq!(u32::from_le_bytes(sum), 7);

    let irqs = client.get_irq_info(pci::MSIX_IRQ).unwrap();
    assert_eq!(irqs.count, 4);
    let interrupt = Interrupt::new().unwrap();
    let connect = irq_set_flag::DATA_EVENTFD | irq_set_flag::ACTION_TRIGGER;
    client.set_irqs(pci::MSIX_IRQ, connect, 1, 1, &[interrupt.as_fd().as_raw_fd()]).unwrap();
    client.region_write(pci::BAR0_REGION, 0x40, &3_u32.to_le_bytes()).unwrap();
    assert!(interrupt.wait(Duration::from_secs(5)).unwrap());

    client.dma_unmap(0x10_0000, 8 * 4096).unwrap();
    assert!(device.function().space.is_empty());
    client.reset().unwrap();
    client.region_read(pci::BAR0_REGION, 0x50, &mut sum).unwrap();
    assert_eq!(sum, [0; 4], "reset");
}
