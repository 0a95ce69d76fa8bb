//! What Identify answers (Base, section 5.1.13; NVM, section 4.1.5): 4096 bytes each.

mod command_set;
mod controller;
mod descriptor;
mod namespace;

pub use command_set::IdentifyNvmController;
pub use controller::{IdentifyController, PowerState, oacs, oncs};
pub use descriptor::{DescriptorType, descriptors, push_descriptor};
pub use namespace::{IdentifyNamespace, LbaFormat};

/// Bytes of every Identify answer.
pub const SIZE: usize = 4096;
/// Most entries of a namespace list.
pub const LIST_MOST: usize = 1024;

open_type! {
    /// Controller or Namespace Structure: what Identify is asked for.
    Cns(u8) {
        /// The namespace, as the NVM command set describes it.
        NAMESPACE = 0x00,
        /// The controller.
        CONTROLLER = 0x01,
        /// Active namespaces above the one given.
        ACTIVE_NAMESPACES = 0x02,
        /// Identifiers of the namespace.
        NAMESPACE_DESCRIPTORS = 0x03,
        /// NVM sets.
        NVM_SETS = 0x04,
        /// The namespace, as a command set describes it.
        COMMAND_SET_NAMESPACE = 0x05,
        /// The controller, as a command set describes it.
        COMMAND_SET_CONTROLLER = 0x06,
        /// Active namespaces of a command set.
        COMMAND_SET_ACTIVE_NAMESPACES = 0x07,
        /// The namespace, independent of the command set.
        INDEPENDENT_NAMESPACE = 0x08,
        /// Allocated namespaces above the one given.
        ALLOCATED_NAMESPACES = 0x10,
        /// The namespace, whether it is attached or not.
        ALLOCATED_NAMESPACE = 0x11,
        /// Controllers that a namespace is attached to.
        ATTACHED_CONTROLLERS = 0x12,
        /// Controllers.
        CONTROLLERS = 0x13,
        /// Primary controller capabilities.
        PRIMARY_CONTROLLER = 0x14,
        /// Secondary controllers.
        SECONDARY_CONTROLLERS = 0x15,
        /// I/O command sets.
        COMMAND_SETS = 0x1c,
    }
}
