//! An NVM subsystem as its hosts see it, without queues and without I/O: what it is called, its namespaces, and for
//! each controller its features, events, errors and log pages.
//!
//! Any thread may change namespaces and health at any time; controllers tell their hosts. Carrying out I/O takes no
//! lock of this module: those who do hold a [`NamespaceView`] and [counters](Health::counters) of their own.

mod controller_state;
mod error_log;
mod events;
mod facts;
mod feature_commands;
mod features;
mod identify;
mod identity;
mod log_page;
mod namespace;
mod namespaces;
mod smart;
#[cfg(test)]
mod testing;
mod warnings;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use engine_nvme_spec::StatusType;

pub use controller_state::ControllerState;
pub use error_log::{ErrorLog, ErrorRecord};
pub use events::{Events, Waker};
pub use facts::{ControllerFacts, CopyLimits};
pub use feature_commands::{FeatureAnswer, GetFeature, SetFeature, feature_data_length};
pub use features::Features;
pub use identify::IdentifyRequest;
pub use identity::{Identity, IdentityError};
pub use log_page::LogRequest;
pub use namespace::{Namespace, NamespaceError, NamespaceOptions, WriteProtection};
pub use namespaces::{NAMESPACES_MOST, NamespaceView, Namespaces};
pub use smart::{CountersOfOne, Health, IoCounters, IoTotals, warning};

use crate::ControllerError;

/// Largest number of a controller (Base, section 5.1.13.2.1: CNTLID).
const CONTROLLERS_MOST: u16 = 0xffef;

/// An NVM subsystem.
#[derive(Debug)]
pub struct Subsystem {
    identity: Identity,
    namespaces: Namespaces,
    health: Arc<Health>,
    controllers: Mutex<Vec<Weak<ControllerState>>>,
}

impl Subsystem {
    /// A subsystem with names of its own and no namespaces, to be changed before it is made.
    #[must_use]
    pub fn builder() -> SubsystemBuilder {
        SubsystemBuilder {
            serial: "homifs0".to_owned(),
            model: "homifs software controller".to_owned(),
            firmware: env!("CARGO_PKG_VERSION").to_owned(),
            nqn: None,
            vendors: (0, 0),
            namespaces: Vec::new(),
        }
    }

    /// What it is called.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its namespaces.
    #[must_use]
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Its health, and counters for those who carry out I/O.
    #[must_use]
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// A further controller, which stays part of the subsystem for as long as it is held.
    ///
    /// # Errors
    /// Where there are as many as there can be.
    pub fn attach_controller(&self) -> Result<Arc<ControllerState>, ControllerError> {
        let mut controllers = self.controllers.lock().unwrap_or_else(PoisonError::into_inner);
        controllers.retain(|one| one.strong_count() > 0);
        let taken: Vec<u16> = controllers.iter().filter_map(Weak::upgrade).map(|one| one.id()).collect();
        let id = (0..=CONTROLLERS_MOST).find(|id| !taken.contains(id)).ok_or_else(|| {
            ControllerError::Options("the subsystem has as many controllers as it can number".to_owned())
        })?;
        let controller = Arc::new(ControllerState::new(id));
        controllers.push(Arc::downgrade(&controller));
        Ok(controller)
    }

    /// Its controllers.
    #[must_use]
    pub fn controllers(&self) -> Vec<Arc<ControllerState>> {
        let controllers = self.controllers.lock().unwrap_or_else(PoisonError::into_inner);
        controllers.iter().filter_map(Weak::upgrade).collect()
    }

    /// Adds a namespace, and tells the hosts of all controllers.
    ///
    /// # Errors
    /// Where its number is taken, or its size or blocks cannot be.
    pub fn add_namespace(&self, options: NamespaceOptions) -> Result<Arc<Namespace>, NamespaceError> {
        let namespace = self.namespaces.add(options, self.identity.nqn())?;
        self.tell_change(namespace.nsid(), None);
        Ok(namespace)
    }

    /// Takes a namespace away, and tells the hosts of all controllers. Commands that were started on it go on; commands
    /// that start later are answered with Invalid Namespace or Format.
    ///
    /// # Errors
    /// Where there is none of that number.
    pub fn remove_namespace(&self, nsid: u32) -> Result<Arc<Namespace>, NamespaceError> {
        let gone = self.namespaces.remove(nsid).ok_or(NamespaceError::Missing(nsid))?;
        self.tell_change(nsid, None);
        Ok(gone)
    }

    /// Changes the size of a namespace, in logical blocks, and tells the hosts of all controllers.
    ///
    /// # Errors
    /// Where there is none of that number, or its backing has no room for so many.
    pub fn resize_namespace(&self, nsid: u32, blocks: u64) -> Result<(), NamespaceError> {
        let namespace = self.namespaces.get(nsid).ok_or(NamespaceError::Missing(nsid))?;
        if namespace.resize(blocks)? {
            self.tell_change(nsid, None);
        }
        Ok(())
    }

    /// Lets a namespace take no more writes, or take them again, and tells the hosts of all controllers.
    ///
    /// # Errors
    /// Where there is none of that number, or its backing takes no writes.
    pub fn set_read_only(&self, nsid: u32, read_only: bool) -> Result<(), NamespaceError> {
        let namespace = self.namespaces.get(nsid).ok_or(NamespaceError::Missing(nsid))?;
        if namespace.set_read_only(read_only)? {
            self.tell_change(nsid, None);
        }
        Ok(())
    }

    /// Puts an error into the log of a controller; answers its number, from 1 on. Lost data counts as a media error.
    pub fn record_error(&self, controller: &ControllerState, record: &ErrorRecord) -> u64 {
        if record.status.kind() == StatusType::MEDIA {
            self.health.media_error();
        }
        controller.errors.record(record)
    }

    /// Tells the hosts of all controllers but one that a namespace changed.
    pub(crate) fn tell_change(&self, nsid: u32, but: Option<u16>) {
        for controller in self.controllers() {
            if Some(controller.id()) != but {
                controller.namespace_changed(nsid);
            }
        }
    }
}

/// What a subsystem will be.
#[derive(Debug, Clone)]
pub struct SubsystemBuilder {
    serial: String,
    model: String,
    firmware: String,
    nqn: Option<String>,
    vendors: (u16, u16),
    namespaces: Vec<NamespaceOptions>,
}

impl SubsystemBuilder {
    /// Its serial number: at most 20 printable characters.
    #[must_use]
    pub fn serial(mut self, serial: &str) -> Self {
        serial.clone_into(&mut self.serial);
        self
    }

    /// Its model: at most 40 printable characters.
    #[must_use]
    pub fn model(mut self, model: &str) -> Self {
        model.clone_into(&mut self.model);
        self
    }

    /// Its firmware revision: at most 8 printable characters.
    #[must_use]
    pub fn firmware(mut self, firmware: &str) -> Self {
        firmware.clone_into(&mut self.firmware);
        self
    }

    /// Its qualified name; one that follows from the serial number where none is given.
    #[must_use]
    pub fn nqn(mut self, nqn: &str) -> Self {
        self.nqn = Some(nqn.to_owned());
        self
    }

    /// PCI vendor and subsystem vendor, as the function's configuration space has them.
    #[must_use]
    pub fn vendors(mut self, vendor: u16, subsystem_vendor: u16) -> Self {
        self.vendors = (vendor, subsystem_vendor);
        self
    }

    /// One more namespace.
    #[must_use]
    pub fn namespace(mut self, options: NamespaceOptions) -> Self {
        self.namespaces.push(options);
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// Where a name or a namespace cannot be.
    pub fn build(self) -> Result<Arc<Subsystem>, ControllerError> {
        let Self { serial, model, firmware, nqn, vendors, namespaces } = self;
        let identity = Identity::new(&serial, &model, &firmware, nqn.as_deref(), vendors)
            .map_err(|error| ControllerError::Options(error.to_string()))?;
        let subsystem = Subsystem {
            identity,
            namespaces: Namespaces::default(),
            health: Health::new(),
            controllers: Mutex::default(),
        };
        for (index, options) in (1..).zip(namespaces) {
            let nsid = options.nsid.unwrap_or(index);
            let added = subsystem.add_namespace(options);
            added.map_err(|error| ControllerError::Namespace { nsid, reason: error.to_string() })?;
        }
        Ok(Arc::new(subsystem))
    }
}

#[cfg(test)]
mod tests {
    use engine_nvme_spec::Status;

    use super::testing::{backing, subsystem};
    use super::*;

    #[test]
    fn namespace_that_cannot_be_is_named_in_the_error() {
        let mut bad = NamespaceOptions::new(backing(4096));
        bad.blocks = Some(9);
        let built =
            Subsystem::builder().namespace(NamespaceOptions::new(backing(4096))).namespace(bad).build();
        let text = built.unwrap_err().to_string();
        assert!(text.starts_with("namespace 2: 9 blocks of 512 bytes do not fit"), "{text}");
        let text = Subsystem::builder().serial("").build().unwrap_err().to_string();
        assert!(text.starts_with("serial number \"\" cannot be used"), "{text}");
    }

    #[test]
    fn numbers_of_controllers_that_are_gone_are_given_again() {
        let subsystem = subsystem();
        let first = subsystem.attach_controller().unwrap();
        let second = subsystem.attach_controller().unwrap();
        assert_eq!((first.id(), second.id()), (0, 1));
        drop(first);
        assert_eq!(subsystem.attach_controller().unwrap().id(), 0);
        assert_eq!(subsystem.controllers().len(), 1, "the last one is gone too");
    }

    #[test]
    fn change_that_changes_nothing_is_not_told() {
        let subsystem = subsystem();
        let controller = subsystem.attach_controller().unwrap();
        controller.events().request(1).unwrap();
        subsystem.resize_namespace(1, 2048).unwrap();
        subsystem.set_read_only(1, false).unwrap();
        assert_eq!(controller.events().take(), None);
        subsystem.set_read_only(1, true).unwrap();
        assert!(controller.events().take().is_some());
        for nsid in [0, 2, u32::MAX] {
            assert_eq!(subsystem.remove_namespace(nsid).err(), Some(NamespaceError::Missing(nsid)));
        }
    }

    #[test]
    fn lost_data_counts_as_a_media_error_and_other_errors_do_not() {
        let subsystem = subsystem();
        let controller = subsystem.attach_controller().unwrap();
        let error =
            |status| ErrorRecord { command: None, opcode: 0, status, location: None, lba: 0, nsid: 1 };
        subsystem.record_error(&controller, &error(Status::INVALID_FIELD));
        assert_eq!(subsystem.record_error(&controller, &error(Status::UNRECOVERED_READ_ERROR)), 2);
        let request = LogRequest {
            page: engine_nvme_spec::LogPage::SMART,
            nsid: 0,
            retain: false,
            offset: 160,
            length: 32,
            by_index: false,
            csi: 0,
        };
        let counts = subsystem.log_page(&controller, &request, &ControllerFacts::default()).unwrap();
        assert_eq!((counts[0], counts[16]), (1, 2), "media errors, errors");
    }
}
