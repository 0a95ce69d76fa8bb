//! The host's memory: areas that the controller may reach, with pages beside them that it may not.

use std::sync::Arc;

use engine_controller::Controller;
use engine_dma::{Access, PAGE, Region, to_u64, to_usize};

/// Bytes of an area.
pub(super) const AREA: u64 = 16 << 10;
/// Bus addresses of the areas; the first two touch.
pub(super) const AREAS: [u64; 6] =
    [0x1000_0000, 0x1000_4000, 0x2000_0000, 0x7fff_ffff_c000, 0xffff_ffff_0000_0000, 0x3000_0000];
/// The last is for the controller to read, not to write.
const READ_ONLY: usize = 5;
/// Bus address of the queues of an orderly host: for each pair a page of submissions and one of completions.
pub(super) const RINGS: u64 = 0x7a31_5c00_0000;
/// Queue pairs of the host, the admin queues among them.
pub(super) const PAIRS: usize = 5;
const RINGS_LENGTH: u64 = 2 * 4096 * 5;
/// Bus address of the memory for bytes that are followed.
pub(super) const FOLLOWED: u64 = 0x55aa_0000_0000;
const FOLLOWED_LENGTH: u64 = 64 << 10;

/// What lies beside memory that the controller may reach.
const CANARY: u8 = 0xa5;

/// Memory with a page of canaries before and after it.
#[derive(Debug)]
pub(super) struct Area {
    region: Arc<Region>,
    iova: u64,
    length: u64,
    access: Access,
    mapped: bool,
    /// What it held when the controller last could not write it.
    frozen: Option<Vec<u8>>,
}

impl Area {
    fn new(iova: u64, length: u64, access: Access, fill: u8) -> Self {
        let region = Region::private(to_usize(length) + 2 * PAGE).expect("there is memory");
        region.fill(0, region.length(), CANARY).expect("it is ours");
        region.fill(PAGE, to_usize(length), fill).expect("it is ours");
        let mut area = Self { region, iova, length, access, mapped: false, frozen: None };
        area.freeze();
        area
    }

    pub(super) fn map(&mut self, controller: &Controller) {
        if !self.mapped {
            let space = controller.address_space();
            let region = Arc::clone(&self.region);
            self.check_frozen();
            space.map(self.iova, self.length, region, PAGE, self.access).expect("the areas do not overlap");
            self.mapped = true;
            self.freeze();
        }
    }

    pub(super) fn unmap(&mut self, controller: &Controller) {
        if self.mapped {
            let settled = controller.unmap(self.iova, self.length).expect("it was mapped as such");
            assert!(settled, "the controller did not let go of {:#x}", self.iova);
            self.mapped = false;
            self.freeze();
        }
    }

    /// What the controller can no longer write must stay as it is.
    fn freeze(&mut self) {
        let writable = self.mapped && self.access == Access::ReadWrite;
        self.frozen = (!writable).then(|| self.bytes());
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; to_usize(self.length)];
        self.region.read(PAGE, &mut bytes).expect("it is ours");
        bytes
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let room = to_usize(self.length) - offset.min(to_usize(self.length));
        let bytes = &bytes[..bytes.len().min(room)];
        self.region.write(PAGE + offset, bytes).expect("it lies within");
        if let Some(frozen) = &mut self.frozen {
            frozen[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }

    pub(super) fn read(&self, offset: usize, bytes: &mut [u8]) {
        self.region.read(PAGE + offset, bytes).expect("it lies within");
    }

    fn check_frozen(&self) {
        if let Some(frozen) = &self.frozen {
            assert!(
                *frozen == self.bytes(),
                "memory at {:#x} changed, which the controller may not write",
                self.iova
            );
        }
    }

    fn check(&self) {
        self.check_frozen();
        let mut page = vec![0; PAGE];
        for offset in [0, PAGE + to_usize(self.length)] {
            self.region.read(offset, &mut page).expect("it is ours");
            let changed = page.iter().position(|&byte| byte != CANARY);
            assert_eq!(changed, None, "memory beside that at {:#x} changed", self.iova);
        }
    }
}

/// All of the host's memory.
#[derive(Debug)]
pub(super) struct HostMemory {
    pub(super) areas: Vec<Area>,
    pub(super) rings: Area,
    pub(super) followed: Area,
}

impl HostMemory {
    pub(super) fn new(controller: &Controller) -> Self {
        let access = |place| if place == READ_ONLY { Access::Read } else { Access::ReadWrite };
        let area =
            |(place, iova): (usize, &u64)| Area::new(*iova, AREA, access(place), 0x11 * (u8_of(place) + 1));
        let mut areas: Vec<Area> = AREAS.iter().enumerate().map(area).collect();
        let mut rings = Area::new(RINGS, RINGS_LENGTH, Access::ReadWrite, 0);
        let mut followed = Area::new(FOLLOWED, FOLLOWED_LENGTH, Access::ReadWrite, 0);
        for area in areas.iter_mut().chain([&mut rings, &mut followed]) {
            area.map(controller);
        }
        Self { areas, rings, followed }
    }

    pub(super) fn area(&mut self, number: u8) -> &mut Area {
        let count = self.areas.len();
        &mut self.areas[usize::from(number) % count]
    }

    /// No byte outside of what is mapped for writing has changed, and none of `secret` is to be seen anywhere.
    pub(super) fn check(&self, secret: [u8; 8]) {
        for area in self.areas.iter().chain([&self.rings, &self.followed]) {
            area.check();
            let seen = area.bytes().windows(8).position(|bytes| bytes == secret);
            assert_eq!(seen, None, "bytes from outside a namespace arrived at {:#x}", area.iova);
        }
    }
}

fn u8_of(number: usize) -> u8 {
    u8::try_from(number).expect("there are few")
}

/// Where in the rings' memory a queue lies.
pub(super) fn ring_offset(pair: usize, completion: bool) -> usize {
    pair * 2 * PAGE + if completion { PAGE } else { 0 }
}

/// Its bus address.
pub(super) fn ring_address(pair: usize, completion: bool) -> u64 {
    RINGS + to_u64(ring_offset(pair, completion))
}
