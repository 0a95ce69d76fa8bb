//! What a controller and its namespaces say of themselves (NVMe Base Specification 2.1, section 5.1.13; NVM Command
//! Set Specification 1.1, section 4.1.5).

use std::time::Duration;

use engine_nvme_spec::identify::{IdentifyController, IdentifyNamespace, SIZE, oacs};
use zerocopy::transmute;

use crate::DriverError;

/// What CRDT1 to CRDT3 count in.
const RETRY_UNIT: Duration = Duration::from_millis(100);

/// What a controller is, and which of the optional things it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerFacts {
    /// Model number, without the padding.
    pub model: String,
    /// Serial number, without the padding.
    pub serial: String,
    /// Firmware revision, without the padding.
    pub firmware: String,
    /// Most pages of the controller's smallest size in one command, as a power of two; none where there is no bound
    /// (MDTS).
    pub max_transfer_pages: Option<u32>,
    /// Optional admin commands (OACS).
    pub admin_commands: u16,
    /// Optional I/O commands (ONCS).
    pub io_commands: u16,
    /// Whether a volatile write cache may hold what was written (VWC).
    pub write_cache: bool,
    /// Whether it takes SGLs for I/O commands, aligned to 4 bytes at least (SGLS).
    pub sgl: bool,
    /// Abort commands that it takes at a time (ACL), at least one.
    pub aborts: u16,
    /// Asynchronous event requests that it takes at a time (AERL), at least one.
    pub events: u16,
    /// How long to wait before trying again what failed with CRD 1, 2 or 3 (CRDT1 to CRDT3).
    pub retry_delays: [Duration; 3],
    /// How long a shutdown may take (RTD3E); none where it does not say.
    pub shutdown: Option<Duration>,
    /// Highest namespace identifier (NN).
    pub namespaces: u32,
}

/// A namespace that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its identifier.
    pub id: u32,
    /// How many blocks it has.
    pub blocks: u64,
    /// Bytes of a block, as a power of two.
    pub block_shift: u32,
}

impl NamespaceFacts {
    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        // Checked when it was made.
        self.blocks << self.block_shift
    }
}

/// Text, padded with spaces; what no terminal should see is replaced.
fn text(bytes: &[u8]) -> String {
    let printable = |&byte: &u8| match byte {
        b' '..=b'~' => char::from(byte),
        0 => ' ',
        _ => '?',
    };
    bytes.iter().map(printable).collect::<String>().trim().to_owned()
}

impl ControllerFacts {
    /// From an Identify Controller structure.
    ///
    /// # Errors
    /// Where its queue entries are not those that every NVM controller has.
    pub(crate) fn parse(bytes: &[u8; SIZE], device: &str) -> Result<Self, DriverError> {
        let told: IdentifyController = transmute!(*bytes);
        // The smallest size in the low half, the largest in the high half, as powers of two.
        for (name, sizes, needed) in [("SQES", told.sqes, 6), ("CQES", told.cqes, 4)] {
            if sizes & 15 > needed || sizes >> 4 < needed {
                return Err(DriverError::Lies {
                    device: device.to_owned(),
                    reason: format!(
                        "{name} is {sizes:#04x}, which leaves out the entries of 2^{needed} bytes that every \
                         controller must take"
                    ),
                });
            }
        }
        let mdts = u32::from(told.mdts);
        let shutdown = told.rtd3e.get();
        Ok(Self {
            serial: text(&told.sn),
            model: text(&told.mn),
            firmware: text(&told.fr),
            max_transfer_pages: (mdts != 0).then_some(mdts),
            admin_commands: told.oacs.get(),
            io_commands: told.oncs.get(),
            write_cache: told.vwc & 1 != 0,
            sgl: matches!(told.sgls.get() & 3, 1 | 2),
            aborts: u16::from(told.acl) + 1,
            events: u16::from(told.aerl) + 1,
            retry_delays: told.crdt.map(|units| RETRY_UNIT * units.get().into()),
            shutdown: (shutdown != 0).then(|| Duration::from_micros(shutdown.into())),
            namespaces: told.nn.get(),
        })
    }

    /// Whether it has shadow doorbells (OACS bit 8).
    #[must_use]
    pub fn has_shadow_doorbells(&self) -> bool {
        self.admin_commands & oacs::DOORBELL_BUFFERS != 0
    }
}

impl NamespaceFacts {
    /// From an Identify Namespace structure of the NVM command set (CNS 00h).
    ///
    /// # Errors
    /// Where there is no such namespace, or none whose blocks can be read as they are.
    pub(crate) fn parse(bytes: &[u8; SIZE], id: u32, device: &str) -> Result<Self, DriverError> {
        let told: IdentifyNamespace = transmute!(*bytes);
        let refused =
            |reason: String| Err(DriverError::Namespace { device: device.to_owned(), namespace: id, reason });
        if bytes.iter().all(|&byte| byte == 0) {
            return refused("there is no active namespace of that number".to_owned());
        }
        let blocks = told.nsze.get();
        if blocks == 0 {
            return refused("it has no blocks".to_owned());
        }
        let Some(format) = told.format() else {
            let (index, formats) = (told.format_index(), u16::from(told.nlbaf) + 1);
            return refused(format!("it uses LBA format {index} and has only {formats}"));
        };
        let (metadata, shift) = (format.ms.get(), format.lbads);
        if metadata != 0 {
            return refused(format!(
                "its blocks have {metadata} bytes of metadata each, which cannot be served; format it without"
            ));
        }
        let protection = told.dps & 7;
        if protection != 0 {
            return refused(format!(
                "it is formatted with protection information of type {protection}, which cannot be served; format it \
                 without"
            ));
        }
        if !(9..=16).contains(&shift) {
            return refused(format!("its blocks have 2^{shift} bytes; 512 bytes to 64 KiB can be served"));
        }
        // Half of what 64 bits hold: offsets are signed in many places.
        if blocks > (i64::MAX.unsigned_abs() >> shift) {
            return refused(format!("{blocks} blocks of 2^{shift} bytes are more than can be addressed"));
        }
        Ok(Self { id, blocks, block_shift: shift.into() })
    }
}
