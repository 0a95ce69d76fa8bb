//! Identify (Base, section 5.1.13; NVM, section 4.1.5).

use engine_nvme_spec::Status;
use engine_nvme_spec::identify::{
    Cns, DescriptorType, IdentifyController, IdentifyNamespace, IdentifyNvmController, LIST_MOST, LbaFormat,
    SIZE, push_descriptor,
};
use zerocopy::{FromZeros, IntoBytes};

use super::error_log::ERRORS_KEPT;
use super::events::EVENT_REQUESTS_MOST;
use super::facts::ControllerFacts;
use super::namespace::Namespace;
use super::namespaces::{NAMESPACES_MOST, Namespaces};
use super::{ControllerState, Subsystem};

/// The command set that there is: NVM.
const NVM: u8 = 0;

/// Controller identifier of Identify that stands for the one that carries the command out.
const THIS_CONTROLLER: u16 = 0xffff;

/// What Identify answers.
pub(crate) type Page = Box<[u8; SIZE]>;

/// Identify, taken apart.
#[derive(Debug, Clone, Copy)]
pub struct IdentifyRequest {
    /// What is asked for.
    pub cns: Cns,
    /// Namespace, or where a list starts.
    pub nsid: u32,
    /// Controller, or where a list starts.
    pub controller: u16,
    /// Command set.
    pub csi: u8,
}

impl Subsystem {
    /// Carries out Identify.
    ///
    /// # Errors
    /// The status that answers the command.
    pub fn identify(
        &self,
        controller: &ControllerState,
        request: &IdentifyRequest,
        facts: &ControllerFacts,
    ) -> Result<Page, Status> {
        let IdentifyRequest { cns, nsid, controller: cntid, csi } = *request;
        let invalid = Err(Status::INVALID_FIELD.final_());
        let of_command_set = matches!(
            cns,
            Cns::COMMAND_SET_NAMESPACE | Cns::COMMAND_SET_CONTROLLER | Cns::COMMAND_SET_ACTIVE_NAMESPACES
        );
        if of_command_set && csi != NVM {
            return invalid;
        }
        let mut page = Box::new([0; SIZE]);
        match cns {
            Cns::NAMESPACE | Cns::ALLOCATED_NAMESPACE => {
                if let Some(namespace) = self.of_valid(nsid)? {
                    copy(&mut *page, identify_namespace(&namespace, facts).as_bytes());
                }
            }
            Cns::CONTROLLER => copy(&mut *page, self.identify_controller(controller, facts).as_bytes()),
            Cns::ACTIVE_NAMESPACES | Cns::COMMAND_SET_ACTIVE_NAMESPACES | Cns::ALLOCATED_NAMESPACES => {
                if nsid >= u32::MAX - 1 {
                    return Err(Status::INVALID_NAMESPACE.final_());
                }
                let numbers = self.namespaces().all().into_iter().map(|namespace| namespace.nsid());
                let list = numbers.filter(|&number| number > nsid).take(LIST_MOST);
                copy(&mut *page, &list.flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
            }
            Cns::NAMESPACE_DESCRIPTORS => {
                let Some(namespace) = self.of_valid(nsid)? else { return invalid };
                describe(&mut page, &namespace);
            }
            // For the NVM command set: protection formats and tags, of which there are none.
            Cns::COMMAND_SET_NAMESPACE => {
                let Some(_) = self.of_valid(nsid)? else { return invalid };
            }
            // Write Zeroes and Dataset Management have no limits beyond their fields. Verify reads what it checks before
            // anything else is done on its thread: no more of it than of another command.
            Cns::COMMAND_SET_CONTROLLER => {
                let vsl = if facts.verify { facts.mdts } else { 0 };
                let limits = IdentifyNvmController { vsl, ..IdentifyNvmController::new_zeroed() };
                copy(&mut *page, limits.as_bytes());
            }
            Cns::INDEPENDENT_NAMESPACE => {
                if let Some(namespace) = self.of_valid(nsid)? {
                    copy(&mut *page, &independent(&namespace));
                }
            }
            Cns::ATTACHED_CONTROLLERS => {
                let Some(_) = self.of_valid(nsid)? else { return Ok(page) };
                copy(&mut *page, &self.controller_list(cntid));
            }
            Cns::CONTROLLERS => copy(&mut *page, &self.controller_list(cntid)),
            Cns::COMMAND_SETS => {
                let known =
                    cntid == THIS_CONTROLLER || self.controllers().iter().any(|one| one.id() == cntid);
                if !known {
                    return invalid;
                }
                // Combination 0: the NVM command set alone.
                copy(&mut *page, &1_u64.to_le_bytes());
            }
            _ => return invalid,
        }
        Ok(page)
    }

    /// The namespace of a valid number; none where it is not active.
    fn of_valid(&self, nsid: u32) -> Result<Option<std::sync::Arc<Namespace>>, Status> {
        if Namespaces::is_valid(nsid) {
            Ok(self.namespaces().get(nsid))
        } else {
            Err(Status::INVALID_NAMESPACE.final_())
        }
    }

    /// A controller list (Base, section 4.6.1) from this number on: how many, then their numbers.
    fn controller_list(&self, from: u16) -> Vec<u8> {
        let mut numbers: Vec<u16> = self.controllers().iter().map(|controller| controller.id()).collect();
        numbers.retain(|&number| number >= from);
        numbers.sort_unstable();
        numbers.truncate(SIZE / 2 - 1);
        let count = u16::try_from(numbers.len()).unwrap_or_default();
        std::iter::once(count).chain(numbers).flat_map(u16::to_le_bytes).collect()
    }

    fn identify_controller(
        &self,
        controller: &ControllerState,
        facts: &ControllerFacts,
    ) -> IdentifyController {
        let identity = self.identity();
        let mut page = IdentifyController::new_zeroed();
        page.vid = identity.vendor.into();
        page.ssvid = identity.subsystem_vendor.into();
        page.sn = identity.serial;
        page.mn = identity.model;
        page.fr = identity.firmware;
        // The subsystem may have several controllers.
        page.cmic = 1 << 1;
        page.mdts = facts.mdts;
        page.cntlid = controller.id().into();
        page.ver = facts.version.0.into();
        page.rtd3e = facts.shutdown_time.into();
        page.rtd3r = facts.shutdown_time.into();
        page.oaes = engine_nvme_spec::feature::EVENT_NAMESPACE_ATTRIBUTE.into();
        // Host identifiers of 16 bytes.
        page.ctratt = 1.into();
        // An I/O controller.
        page.cntrltype = 1;
        page.crdt = facts.retry_delays.map(Into::into);
        page.oacs = facts.oacs().into();
        page.acl = facts.aborts.saturating_sub(1);
        page.aerl = EVENT_REQUESTS_MOST - 1;
        // One slot, read-only.
        page.frmw = 1 | 1 << 1;
        // Effects page, extended offsets, supported pages.
        page.lpa = 1 << 1 | 1 << 2 | 1 << 5;
        page.elpe = ERRORS_KEPT - 1;
        let capacity = self.namespaces().all().iter().map(|namespace| capacity(namespace)).sum::<u128>();
        page.tnvmcap = capacity.to_le_bytes();
        page.sqes = 0x66;
        page.cqes = 0x44;
        page.nn = NAMESPACES_MOST.into();
        page.mnan = NAMESPACES_MOST.into();
        page.oncs = facts.oncs().into();
        page.fuses = u16::from(facts.fused_compare_and_write).into();
        // There may be a cache, and this says whether Flush takes all namespaces at once.
        page.vwc = 1 | if facts.flush_all { 3 } else { 2 } << 1;
        // Protection that the host takes away, and until the power cycle.
        page.nwpc = 0b011;
        // Copy descriptors of format 0.
        page.cdfs = u16::from(facts.copy.is_some()).into();
        page.sgls = facts.sgls.into();
        copy(&mut page.subnqn, identity.nqn.as_bytes());
        let [state, ..] = &mut page.psd;
        // Power is not told: 0 W.
        state.flags = 0;
        page
    }
}

/// Copies as much as fits to the start.
fn copy(target: &mut [u8], source: &[u8]) {
    for (to, from) in target.iter_mut().zip(source) {
        *to = *from;
    }
}

fn capacity(namespace: &Namespace) -> u128 {
    u128::from(namespace.blocks()) << namespace.block_shift()
}

/// What namespaces and their attributes have in common between both structures.
fn attributes(namespace: &Namespace) -> u8 {
    u8::from(!namespace.is_writable())
}

/// Several controllers may have it.
const SHARED: u8 = 1;

fn identify_namespace(namespace: &Namespace, facts: &ControllerFacts) -> IdentifyNamespace {
    let mut page = IdentifyNamespace::new_zeroed();
    let blocks = namespace.blocks();
    page.nsze = blocks.into();
    page.ncap = blocks.into();
    page.nuse = blocks.into();
    page.nmic = SHARED;
    page.nvmcap = capacity(namespace).to_le_bytes();
    if let Some(limits) = facts.copy {
        page.mssrl = limits.range_blocks.into();
        page.mcl = limits.blocks.into();
        page.msrc = limits.ranges.saturating_sub(1);
    }
    page.nsattr = attributes(namespace);
    page.nguid = namespace.nguid();
    page.eui64 = namespace.eui64();
    let [format, ..] = &mut page.lbaf;
    let shift = u8::try_from(namespace.block_shift()).unwrap_or_default();
    *format = LbaFormat { lbads: shift, ..LbaFormat::default() };
    page
}

/// Namespace Identification Descriptors (Base, section 5.1.13.2.3).
fn describe(page: &mut [u8; SIZE], namespace: &Namespace) {
    let (eui64, nguid, uuid) = (namespace.eui64(), namespace.nguid(), namespace.uuid());
    let descriptors: [(DescriptorType, &[u8]); 4] = [
        (DescriptorType::EUI64, &eui64),
        (DescriptorType::NGUID, &nguid),
        (DescriptorType::UUID, &uuid),
        (DescriptorType::COMMAND_SET, &[NVM]),
    ];
    let mut at = 0;
    for (kind, identifier) in descriptors {
        // Zeros mean that there is none, except for the command set.
        if kind == DescriptorType::COMMAND_SET || identifier.iter().any(|&byte| byte != 0) {
            at = push_descriptor(page, at, kind, identifier);
        }
    }
}

/// I/O Command Set Independent Identify Namespace (Base, figure 320).
fn independent(namespace: &Namespace) -> [u8; 15] {
    let mut bytes = [0; 15];
    let [_, nmic, _, _, _, _, _, _, nsattr, _, _, _, _, _, nstat] = &mut bytes;
    *nmic = SHARED;
    *nsattr = attributes(namespace);
    // Ready.
    *nstat = 1;
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine_nvme_spec::identify::descriptors;

    use super::super::NamespaceOptions;
    use super::super::testing::{backing, subsystem};
    use super::*;

    fn request(cns: u8, nsid: u32) -> IdentifyRequest {
        IdentifyRequest { cns: Cns(cns), nsid, controller: 0, csi: 0 }
    }

    struct Fixture {
        subsystem: Arc<Subsystem>,
        controller: Arc<ControllerState>,
    }

    impl Fixture {
        fn new() -> Self {
            let subsystem = subsystem();
            let controller = subsystem.attach_controller().unwrap();
            Self { subsystem, controller }
        }

        fn ask(&self, request: IdentifyRequest) -> Result<Page, Status> {
            self.subsystem.identify(&self.controller, &request, &ControllerFacts::default())
        }
    }

    fn number(page: &[u8], at: usize, length: usize) -> u64 {
        page[at..at + length].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    }

    const INVALID: Status = Status(0x4002);
    const INVALID_NAMESPACE: Status = Status(0x400b);

    /// By the byte offsets of figure 313, as nvme-cli's `struct nvme_id_ctrl` has them too.
    #[test]
    fn controller_stands_where_figure_313_has_it() {
        let page = Fixture::new().ask(request(1, 0)).unwrap();
        assert_eq!(&page[4..24], b"S123                ");
        assert_eq!(&page[24..64], format!("{:40}", "model").as_bytes());
        assert_eq!(&page[64..72], b"1.2     ");
        for (name, at, length, value) in [
            ("CMIC", 76, 1, 2),
            ("MDTS", 77, 1, 8),
            ("CNTLID", 78, 2, 0),
            ("VER", 80, 4, 0x0002_0100),
            ("RTD3E", 88, 4, 10_000_000),
            ("OAES", 92, 4, 0x100),
            ("CTRATT", 96, 4, 1),
            ("CNTRLTYPE", 111, 1, 1),
            ("OACS", 256, 2, 0x100),
            ("ACL", 258, 1, 3),
            ("AERL", 259, 1, 15),
            ("FRMW", 260, 1, 3),
            ("LPA", 261, 1, 0b10_0110),
            ("ELPE", 262, 1, 63),
            ("NPSS", 263, 1, 0),
            ("TNVMCAP", 280, 8, 1 << 20),
            ("KAS", 320, 2, 0),
            ("SANICAP", 328, 4, 0),
            ("SQES", 512, 1, 0x66),
            ("CQES", 513, 1, 0x44),
            ("NN", 516, 4, 1024),
            ("ONCS", 520, 2, 0x1dd),
            ("FUSES", 522, 2, 0),
            ("FNA", 524, 1, 0),
            ("VWC", 525, 1, 7),
            ("NWPC", 531, 1, 3),
            ("OCFS", 534, 2, 1),
            ("SGLS", 536, 4, 0x5_0001),
            ("MNAN", 540, 4, 1024),
        ] {
            assert_eq!(number(&page[..], at, length), value, "{name}");
        }
        assert!(page[768..].starts_with(b"nqn.2014-08.org.nvmexpress:uuid:"));
        assert_eq!(page[1023], 0);
    }

    #[test]
    fn facts_that_are_not_there_are_not_told() {
        let fixture = Fixture::new();
        let facts = ControllerFacts {
            shadow_doorbells: false,
            compare: false,
            write_zeroes: false,
            dataset_management: false,
            verify: false,
            copy: None,
            flush_all: false,
            ..ControllerFacts::default()
        };
        let page = fixture.subsystem.identify(&fixture.controller, &request(1, 0), &facts).unwrap();
        assert_eq!((number(&page[..], 256, 2), number(&page[..], 520, 2)), (0, 0x50));
        assert_eq!((page[525], number(&page[..], 534, 2)), (5, 0));
    }

    /// By the byte offsets of figure 114.
    #[test]
    fn namespace_stands_where_figure_114_has_it() {
        let fixture = Fixture::new();
        let mut options = NamespaceOptions::new(backing(1 << 20));
        options.block_size = 4096;
        options.read_only = true;
        options.eui64 = Some([1, 2, 3, 4, 5, 6, 7, 8]);
        options.nguid = Some([9; 16]);
        fixture.subsystem.add_namespace(options).unwrap();
        for (nsid, blocks, shift, attributes) in [(1, 2048, 9, 0), (2, 256, 12, 1)] {
            let page = fixture.ask(request(0, nsid)).unwrap();
            for at in [0, 8, 16] {
                assert_eq!(number(&page[..], at, 8), blocks, "NSZE, NCAP, NUSE of {nsid}");
            }
            assert_eq!((page[25], page[26], page[29]), (0, 0, 0), "NLBAF, FLBAS, DPS");
            assert_eq!(page[30], 1, "NMIC");
            assert_eq!(number(&page[..], 48, 8), 1 << 20, "NVMCAP");
            assert_eq!((number(&page[..], 74, 2), number(&page[..], 76, 4), page[80]), (2048, 16384, 127));
            assert_eq!(page[99], attributes, "NSATTR");
            assert_eq!(number(&page[..], 128, 4), shift << 16, "LBAF0");
            assert_eq!(page[..], fixture.ask(request(0x11, nsid)).unwrap()[..], "allocated");
        }
        let page = fixture.ask(request(0, 2)).unwrap();
        assert_eq!(page[104..120], [9; 16]);
        assert_eq!(page[120..128], [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn number_that_is_not_active_is_zeros_and_one_that_is_not_valid_is_refused() {
        let fixture = Fixture::new();
        for cns in [0, 8, 0x11, 0x12] {
            assert!(fixture.ask(request(cns, 5)).unwrap().iter().all(|&byte| byte == 0), "CNS {cns:#x}");
        }
        for cns in [3, 5] {
            assert_eq!(fixture.ask(request(cns, 5)).err(), Some(INVALID), "CNS {cns:#x}");
        }
        for cns in [0, 3, 5, 8, 0x11, 0x12] {
            for nsid in [0, 1025, u32::MAX] {
                assert_eq!(fixture.ask(request(cns, nsid)).err(), Some(INVALID_NAMESPACE), "CNS {cns:#x}");
            }
        }
    }

    #[test]
    fn lists_of_namespaces_start_after_the_number_given() {
        let fixture = Fixture::new();
        for nsid in [3, 7, 1024] {
            let options = NamespaceOptions { nsid: Some(nsid), ..NamespaceOptions::new(backing(8192)) };
            fixture.subsystem.add_namespace(options).unwrap();
        }
        for cns in [2, 7, 0x10] {
            for (from, expected) in [(0, &[1, 3, 7, 1024][..]), (3, &[7, 1024]), (1024, &[])] {
                let page = fixture.ask(request(cns, from)).unwrap();
                let numbers: Vec<u64> =
                    (0..1024).map(|at| number(&page[..], at * 4, 4)).take_while(|&nsid| nsid != 0).collect();
                assert_eq!(numbers, expected, "CNS {cns:#x} from {from}");
            }
            for nsid in [u32::MAX - 1, u32::MAX] {
                assert_eq!(fixture.ask(request(cns, nsid)).err(), Some(INVALID_NAMESPACE));
            }
        }
    }

    #[test]
    fn descriptors_name_what_the_namespace_is_called() {
        let fixture = Fixture::new();
        let namespace = fixture.subsystem.namespaces().get(1).unwrap();
        let page = fixture.ask(request(3, 1)).unwrap();
        let found: Vec<(u8, Vec<u8>)> =
            descriptors(&page).map(|(kind, identifier)| (kind.0, identifier.to_vec())).collect();
        let expected = [(2, namespace.nguid().to_vec()), (3, namespace.uuid().to_vec()), (4, vec![0])];
        assert_eq!(found, expected);
    }

    #[test]
    fn controllers_are_listed_from_the_number_given() {
        let fixture = Fixture::new();
        let others: Vec<_> = (0..3).map(|_| fixture.subsystem.attach_controller().unwrap()).collect();
        assert_eq!(others.iter().map(|one| one.id()).collect::<Vec<_>>(), [1, 2, 3]);
        for cns in [0x12, 0x13] {
            let page = fixture.ask(IdentifyRequest { controller: 2, ..request(cns, 1) }).unwrap();
            assert_eq!(number(&page[..], 0, 8), 0x0000_0003_0002_0002);
        }
        drop(others);
        assert_eq!(number(&fixture.ask(request(0x13, 0)).unwrap()[..], 0, 8), 1);
    }

    #[test]
    fn command_sets_and_what_they_say_are_those_of_nvm() {
        let fixture = Fixture::new();
        for controller in [0, 0xffff] {
            let page = fixture.ask(IdentifyRequest { controller, ..request(0x1c, 0) }).unwrap();
            assert_eq!((number(&page[..], 0, 8), number(&page[..], 8, 8)), (1, 0));
        }
        assert_eq!(fixture.ask(IdentifyRequest { controller: 9, ..request(0x1c, 0) }).err(), Some(INVALID));
        for cns in [5, 6, 7] {
            assert!(fixture.ask(request(cns, 1)).is_ok());
            assert_eq!(fixture.ask(IdentifyRequest { csi: 2, ..request(cns, 1) }).err(), Some(INVALID));
        }
    }

    #[test]
    fn independent_structure_says_shared_and_ready() {
        let fixture = Fixture::new();
        let page = fixture.ask(request(8, 1)).unwrap();
        assert_eq!((page[1], page[8], page[14]), (1, 0, 1));
        assert!(page[15..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn what_there_is_not_is_refused() {
        let fixture = Fixture::new();
        for cns in (0..=255).filter(|cns| !matches!(cns, 0..=3 | 5..=8 | 0x10..=0x13 | 0x1c)) {
            assert_eq!(fixture.ask(request(cns, 1)).err(), Some(INVALID), "CNS {cns:#x}");
        }
    }
}
