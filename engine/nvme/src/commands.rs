//! What can be asked of a controller beside reading and writing.

use crate::admin::{AdminCommand, AdminData};
use crate::events::log_dwords;
use crate::wire::admin;
use crate::{Controller, DriverError, NamespaceFacts};

/// CNS values of the Identify command.
const CNS_NAMESPACE: u32 = 0;
const CNS_ACTIVE: u32 = 2;

/// Namespaces that are listed at most: a controller that names more is hardly one.
const MOST_NAMESPACES: usize = 1 << 16;
/// Identifiers in one answer.
const LISTED: usize = 1024;

/// SMART / health information (NVMe Base Specification 2.1, section 5.1.12.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Bits: 0 spare, 1 temperature, 2 reliability, 3 read-only, 4 volatile backup, 5 persistent memory.
    pub critical_warning: u8,
    /// Composite temperature in kelvins.
    pub temperature: u16,
    /// Remaining spare capacity in percent.
    pub spare: u8,
    /// Estimate of the life that is used, in percent, which may pass 100.
    pub used: u8,
    /// Thousands of 512-byte units read by the host.
    pub units_read: u128,
    /// Thousands of 512-byte units written by the host.
    pub units_written: u128,
    /// Read commands completed.
    pub reads: u128,
    /// Write commands completed.
    pub writes: u128,
    /// Unrecovered data integrity errors.
    pub media_errors: u128,
    /// Entries of the error log over the controller's life.
    pub errors: u128,
}

/// An entry of the error information log page (section 5.1.12.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorEntry {
    /// Counts up; never zero.
    pub count: u64,
    /// Submission queue of the command; 65535 where the error belongs to none.
    pub queue: u16,
    /// Identifier of the command.
    pub command: u16,
    /// What it answered.
    pub status: crate::Status,
    /// First block in question.
    pub lba: u64,
    /// Namespace.
    pub namespace: u32,
}

impl Controller {
    /// The namespaces that are attached (section 5.1.13.2.2), lowest first.
    ///
    /// # Errors
    /// Where the controller does not answer, or with a list that is none.
    pub fn namespaces(&self) -> Result<Vec<u32>, DriverError> {
        let mut all: Vec<u32> = Vec::new();
        loop {
            let last = all.last().copied().unwrap_or(0);
            let command = AdminCommand::new(admin::IDENTIFY, "list namespaces").on(last).with([CNS_ACTIVE]);
            let answer = self.admin(|queue| queue.ask(command))?;
            let (entries, _) = answer.as_chunks::<4>();
            let before = all.len();
            all.extend(entries.iter().map(|entry| u32::from_le_bytes(*entry)).take_while(|&id| id != 0));
            let new = all.get(before..).unwrap_or_default();
            let rises =
                new.iter().try_fold(last, |below, &id| (below < id && id < 0xffff_fffe).then_some(id));
            if rises.is_none() || all.len() > MOST_NAMESPACES {
                return Err(DriverError::Lies {
                    device: self.name().to_owned(),
                    reason: "its list of namespaces does not rise".to_owned(),
                });
            }
            if new.len() < LISTED {
                return Ok(all);
            }
        }
    }

    /// What the controller says of a namespace.
    ///
    /// # Errors
    /// Where there is none of that number, or none that can be read.
    pub fn namespace(&self, id: u32) -> Result<NamespaceFacts, DriverError> {
        let command = AdminCommand::new(admin::IDENTIFY, "identify namespace").on(id).with([CNS_NAMESPACE]);
        let answer = self.admin(|queue| queue.ask(command))?;
        NamespaceFacts::parse(&answer, id, self.name())
    }

    /// The health of the controller.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn health(&self) -> Result<Health, DriverError> {
        let page = self.log_page(2, 512)?;
        let at = |at: usize| page.get(at).copied().unwrap_or(0);
        let wide = |at: usize| {
            let bytes = page.get(at..at + 16).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u128::from_le_bytes)
        };
        Ok(Health {
            critical_warning: at(0),
            temperature: u16::from_le_bytes([at(1), at(2)]),
            spare: at(3),
            used: at(5),
            units_read: wide(32),
            units_written: wide(48),
            reads: wide(64),
            writes: wide(80),
            media_errors: wide(160),
            errors: wide(176),
        })
    }

    /// The latest errors that the controller remembers, newest first; at most 64.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn errors(&self) -> Result<Vec<ErrorEntry>, DriverError> {
        let page = self.log_page(1, 4096)?;
        let (entries, _) = page.as_chunks::<64>();
        let entry = |bytes: &[u8; 64]| {
            let [a, b, c, d, e, f, g, h, q0, q1, c0, c1, s0, s1, _, _, rest @ ..] = *bytes;
            let [l0, l1, l2, l3, l4, l5, l6, l7, n0, n1, n2, n3, ..] = rest;
            ErrorEntry {
                count: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                queue: u16::from_le_bytes([q0, q1]),
                command: u16::from_le_bytes([c0, c1]),
                status: crate::Status::new(u16::from_le_bytes([s0, s1]) >> 1),
                lba: u64::from_le_bytes([l0, l1, l2, l3, l4, l5, l6, l7]),
                namespace: u32::from_le_bytes([n0, n1, n2, n3]),
            }
        };
        Ok(entries.iter().map(entry).filter(|entry| entry.count != 0).collect())
    }

    /// The first `length` bytes (at most 4096, whole dwords) of a log page, for all namespaces.
    ///
    /// # Errors
    /// Where the controller does not have the page.
    pub fn log_page(&self, page: u8, length: u32) -> Result<[u8; 4096], DriverError> {
        let length = length.clamp(4, 4096);
        let command = AdminCommand::new(admin::GET_LOG_PAGE, "reading a log page");
        let command = command.on(u32::MAX).with(log_dwords(page, length));
        self.admin(|queue| queue.ask(command))
    }

    /// The current value of a feature that has one in dword 0.
    ///
    /// # Errors
    /// Where the controller does not have it.
    pub fn feature(&self, feature: u8) -> Result<u32, DriverError> {
        let command = AdminCommand::new(admin::GET_FEATURES, "asking for a feature").with([feature.into()]);
        self.admin(|queue| queue.call(command, AdminData::None))
    }

    /// Sets a feature that has its value in dword 11.
    ///
    /// # Errors
    /// Where the controller does not have it, or not with this value.
    pub fn set_feature(&self, feature: u8, value: u32) -> Result<(), DriverError> {
        let command = AdminCommand::new(admin::SET_FEATURES, "setting a feature");
        let command = command.with([feature.into(), value]);
        self.admin(|queue| queue.call(command, AdminData::None)).map(drop)
    }
}
