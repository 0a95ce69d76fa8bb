//! Structures that know their own fields, so that the C header is made from them and not beside them.

/// A field of a shared structure.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name, in Rust and in C.
    pub name: &'static str,
    /// Bits of each element: 8, 16, 32 or 64.
    pub bits: usize,
    /// Number of elements; 1 for what is no array.
    pub elements: usize,
    /// Byte offset within the structure.
    pub offset: usize,
    /// What it means: the lines of its documentation.
    pub doc: &'static [&'static str],
}

/// A shared structure.
#[derive(Debug, Clone, Copy)]
pub struct Structure {
    /// Its name in C.
    pub c_name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// What it is: the lines of its documentation.
    pub doc: &'static [&'static str],
    /// Its fields in order.
    pub fields: &'static [Field],
}

/// Declares a `#[repr(C)]` structure of little-endian numbers and its description for the C header.
macro_rules! layout {
    (
        $(#[doc = $doc:literal])+
        $name:ident = $c_name:literal, $size:literal bytes {
            $( $(#[doc = $field_doc:literal])+ $field:ident: $kind:ident $([$count:literal])?, )+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
        #[derive(zerocopy::Unaligned)]
        #[repr(C)]
        pub struct $name {
            $( $(#[doc = $field_doc])+ pub $field: layout!(@rust $kind $([$count])?), )+
        }

        const _: () = assert!(size_of::<$name>() == $size);

        impl Default for $name {
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }

        impl $name {
            /// How the structure looks to C.
            pub const STRUCTURE: crate::Structure = crate::Structure {
                c_name: $c_name,
                size: $size,
                doc: &[$($doc),+],
                fields: &[$(crate::Field {
                    name: stringify!($field),
                    bits: layout!(@bits $kind),
                    elements: layout!(@count $([$count])?),
                    offset: core::mem::offset_of!($name, $field),
                    doc: &[$($field_doc),+],
                }),+],
            };
        }
    };
    (@rust u8 [$count:literal]) => { [u8; $count] };
    (@rust u32 [$count:literal]) => { [zerocopy::little_endian::U32; $count] };
    (@rust u64 [$count:literal]) => { [zerocopy::little_endian::U64; $count] };
    (@rust u16) => { zerocopy::little_endian::U16 };
    (@rust u32) => { zerocopy::little_endian::U32 };
    (@rust u64) => { zerocopy::little_endian::U64 };
    (@bits u8) => { 8 };
    (@bits u16) => { 16 };
    (@bits u32) => { 32 };
    (@bits u64) => { 64 };
    (@count) => { 1 };
    (@count [$count:literal]) => { $count };
}
