//! What can be asked of a controller beside reading and writing.

use engine_nvme_spec::identify::{Cns, LIST_MOST};
use engine_nvme_spec::{ANY_NAMESPACE, ErrorEntry, FeatureId, LogPage, Select, SmartLog, admin};
use zerocopy::{FromBytes, transmute};

use crate::admin::ANSWER;
use crate::{Controller, DriverError, NamespaceFacts};

/// Namespaces that are listed at most: a controller that names more is hardly one.
const MOST_NAMESPACES: usize = 1 << 16;
/// Identifiers from here on are no namespaces of their own.
const FIRST_RESERVED: u32 = 0xffff_fffe;

impl Controller {
    /// The namespaces that are attached (Base, section 5.1.13.2.2), lowest first.
    ///
    /// # Errors
    /// Where the controller does not answer, or with a list that is none.
    pub fn namespaces(&self) -> Result<Vec<u32>, DriverError> {
        let mut all: Vec<u32> = Vec::new();
        loop {
            let last = all.last().copied().unwrap_or(0);
            let command = admin::identify(Cns::ACTIVE_NAMESPACES, last);
            let answer = self.admin(|queue| queue.ask("list namespaces", command))?;
            let (entries, _) = answer.as_chunks::<4>();
            let before = all.len();
            all.extend(entries.iter().map(|entry| u32::from_le_bytes(*entry)).take_while(|&id| id != 0));
            let new = all.get(before..).unwrap_or_default();
            let next = |below, &id| (below < id && id < FIRST_RESERVED).then_some(id);
            if new.iter().try_fold(last, next).is_none() || all.len() > MOST_NAMESPACES {
                return Err(DriverError::Lies {
                    device: self.name().to_owned(),
                    reason: "its list of namespaces does not rise".to_owned(),
                });
            }
            if new.len() < LIST_MOST {
                return Ok(all);
            }
        }
    }

    /// What the controller says of a namespace.
    ///
    /// # Errors
    /// Where there is none of that number, or none that can be read.
    pub fn namespace(&self, id: u32) -> Result<NamespaceFacts, DriverError> {
        let command = admin::identify(Cns::NAMESPACE, id);
        let answer = self.admin(|queue| queue.ask("identify namespace", command))?;
        NamespaceFacts::parse(&answer, id, self.name())
    }

    /// The health of the controller (Base, section 5.1.12.1.3).
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn health(&self) -> Result<SmartLog, DriverError> {
        let page = self.log_page(LogPage::SMART, 512)?;
        let (health, _) = SmartLog::read_from_prefix(&page).map_err(|_| self.short())?;
        Ok(health)
    }

    /// The latest errors that the controller remembers (Base, section 5.1.12.1.2), newest first; at most 64.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn errors(&self) -> Result<Vec<ErrorEntry>, DriverError> {
        let page: [ErrorEntry; ANSWER / size_of::<ErrorEntry>()] =
            transmute!(self.log_page(LogPage::ERROR, 4096)?);
        Ok(page.into_iter().filter(|entry| entry.error_count != 0).collect())
    }

    /// The first `length` bytes (whole dwords, at most 4096) of a log page, for all namespaces.
    ///
    /// # Errors
    /// Where the controller does not have the page.
    pub fn log_page(&self, page: LogPage, length: u32) -> Result<[u8; ANSWER], DriverError> {
        let command = admin::get_log_page(page, ANY_NAMESPACE, 0, length.clamp(4, 4096), false);
        self.admin(|queue| queue.ask("reading a log page", command))
    }

    /// The current value of a feature that has one in dword 0.
    ///
    /// # Errors
    /// Where the controller does not have it.
    pub fn feature(&self, feature: FeatureId) -> Result<u32, DriverError> {
        let command = admin::get_features(feature, Select::CURRENT);
        self.admin(|queue| queue.call("asking for a feature", command))
    }

    /// Sets a feature that has its value in dword 11.
    ///
    /// # Errors
    /// Where the controller does not have it, or not with this value.
    pub fn set_feature(&self, feature: FeatureId, value: u32) -> Result<(), DriverError> {
        let command = admin::set_features(feature, value);
        self.admin(|queue| queue.call("setting a feature", command)).map(drop)
    }

    fn short(&self) -> DriverError {
        DriverError::Lies {
            device: self.name().to_owned(),
            reason: "a log page is shorter than it must be".to_owned(),
        }
    }
}
