//! PCI, as VFIO numbers it, and a function of one's own with its configuration space.

mod config_space;
mod device;
mod msix;

pub use config_space::Identity;
pub use device::{PciDevice, PciFunction};

/// `VFIO_PCI_BAR0_REGION_INDEX`
pub const BAR0_REGION: u32 = 0;
/// `VFIO_PCI_BAR4_REGION_INDEX`
pub const BAR4_REGION: u32 = 4;
/// `VFIO_PCI_CONFIG_REGION_INDEX`
pub const CONFIG_REGION: u32 = 7;
/// `VFIO_PCI_NUM_REGIONS`
pub const REGIONS: u32 = 9;
/// `VFIO_PCI_MSIX_IRQ_INDEX`
pub const MSIX_IRQ: u32 = 2;
/// `VFIO_PCI_NUM_IRQS`
pub const IRQS: u32 = 5;

/// Where the command register is (PCI Express Base Specification 5.0, section 7.5.1.1.3).
pub const COMMAND: u64 = 0x04;
/// Where the class code is: programming interface, subclass, base class (section 7.5.1.1.6).
pub const CLASS: u64 = 0x09;
/// The class code of an NVMe I/O controller, in the order of the register (NVMe over PCIe Transport Specification
/// 1.x, section 3.8.1.5).
pub const NVME_CLASS: [u8; 3] = [0x02, 0x08, 0x01];

/// Bits of the command register.
pub mod command {
    /// It answers for its memory.
    pub const MEMORY: u16 = 1 << 1;
    /// It may reach memory and send messages.
    pub const BUS_MASTER: u16 = 1 << 2;
    /// It answers parity errors.
    pub const PARITY: u16 = 1 << 6;
    /// It reports system errors.
    pub const SYSTEM_ERROR: u16 = 1 << 8;
    /// It does not use its pin interrupt.
    pub const NO_PIN: u16 = 1 << 10;
}
