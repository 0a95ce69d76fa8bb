//! What goes over the wire, byte for byte as the kernel has it (include/uapi/linux/fuse.h, protocol 7.31 to 7.45).

/// Structures of the wire, each with its size.
macro_rules! structures {
    ($($(#[$about:meta])* $name:ident ($size:literal) { $($field:ident: $kind:ty,)* })*) => {
        $(
            $(#[$about])*
            #[derive(
                Debug, Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
            )]
            #[repr(C)]
            pub(crate) struct $name {
                $(pub(crate) $field: $kind,)*
            }
            const _: () = assert!(size_of::<$name>() == $size);
        )*
    };
}

mod answers;
mod arguments;
mod attributes;
mod header;
mod init;
mod opcode;

pub(crate) use answers::*;
pub(crate) use arguments::*;
pub(crate) use attributes::*;
pub(crate) use header::*;
pub(crate) use init::*;
pub(crate) use opcode::Opcode;
