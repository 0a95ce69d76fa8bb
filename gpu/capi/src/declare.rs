//! Functions and structures that know how C declares them, so that the header is made from them and not beside them.

use std::ffi::{c_char, c_int, c_void};

/// A constant of the header.
#[derive(Debug, Clone, Copy)]
pub struct Constant {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: u32,
    /// What it means.
    pub doc: &'static str,
}

/// A function of the library.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The type that it returns, in C.
    pub returns: String,
    /// Types, in C, and names of what it takes.
    pub parameters: Vec<(String, &'static str)>,
    /// The lines of its documentation.
    pub doc: &'static [&'static str],
}

/// A structure that callers see into.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its name.
    pub name: &'static str,
    /// Its size in bytes, here.
    pub size: usize,
    /// The lines of its documentation.
    pub doc: &'static [&'static str],
    /// Its members in order.
    pub members: Vec<Member>,
}

/// A member of a structure.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// Its type in C.
    pub kind: String,
    /// Its first byte, here.
    pub offset: usize,
    /// The lines of its documentation.
    pub doc: &'static [&'static str],
}

/// A type that C has, too.
pub(crate) trait CType {
    /// What C calls it.
    fn name() -> String;
}

impl<T: CType> CType for *const T {
    fn name() -> String {
        // What stands left of a `const` that ends a pointer's name is the pointer.
        pointer_to(&if T::name().ends_with('*') {
            format!("{}const ", T::name())
        } else {
            format!("const {} ", T::name())
        })
    }
}

impl<T: CType> CType for *mut T {
    fn name() -> String {
        let of = T::name();
        pointer_to(&if of.ends_with('*') { of } else { format!("{of} ") })
    }
}

fn pointer_to(of: &str) -> String {
    format!("{of}*")
}

macro_rules! c_types {
    ($($rust:ty => $c:literal,)+) => {
        $(impl CType for $rust {
            fn name() -> String {
                $c.into()
            }
        })+
    };
}

c_types! {
    () => "void",
    c_void => "void",
    c_char => "char",
    c_int => "int",
    u32 => "uint32_t",
    u64 => "uint64_t",
    i64 => "int64_t",
}

/// Declares functions that C calls. A body gives a `Result`; no panic leaves it.
macro_rules! functions {
    ($(
        $(#[doc = $doc:literal])+
        fn $name:ident($($parameter:ident: $kind:ty),* $(,)?) -> $returns:ty $body:block
    )+) => {
        $(
            $(#[doc = $doc])+
            ///
            /// # Safety
            /// Pointers must be what the header says.
            #[unsafe(no_mangle)]
            pub(crate) unsafe extern "C" fn $name($($parameter: $kind),*) -> $returns {
                crate::boundary::guard(|| $body)
            }
        )+

        /// The functions of this file, for the header.
        pub(crate) fn functions() -> Vec<crate::Function> {
            use crate::declare::CType;
            vec![$(crate::Function {
                name: stringify!($name),
                returns: <$returns as CType>::name(),
                parameters: vec![$((<$kind as CType>::name(), stringify!($parameter))),*],
                doc: &[$($doc),+],
            }),+]
        }
    };
}

/// Declares a structure that C sees into.
macro_rules! record {
    (
        $(#[doc = $doc:literal])+
        $name:ident = $c_name:literal {
            $( $(#[doc = $member_doc:literal])+ $member:ident: $kind:ty, )+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy)]
        #[repr(C)]
        pub(crate) struct $name {
            $( $(#[doc = $member_doc])+ pub(crate) $member: $kind, )+
        }

        impl $name {
            /// How the structure looks to C.
            pub(crate) fn record() -> crate::Record {
                use crate::declare::CType;
                crate::Record {
                    name: $c_name,
                    size: size_of::<$name>(),
                    doc: &[$($doc),+],
                    members: vec![$(crate::Member {
                        name: stringify!($member),
                        kind: <$kind as CType>::name(),
                        offset: std::mem::offset_of!($name, $member),
                        doc: &[$($member_doc),+],
                    }),+],
                }
            }
        }

        impl crate::declare::CType for $name {
            fn name() -> String {
                concat!("struct ", $c_name).into()
            }
        }
    };
}
