//! Open types: a number with names for some of its values.

/// Declares a newtype over an integer with named values. What has no name prints as a number.
macro_rules! open_type {
    (
        $(#[$meta:meta])*
        $name:ident($inner:ty) {
            $( $(#[$value_meta:meta])* $value:ident = $number:expr, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl $name {
            $( $(#[$value_meta])* pub const $value: Self = Self($number); )*

            /// Its name, where it has one.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                $( if self.0 == Self::$value.0 { return Some(stringify!($value)); } )*
                None
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($name), "({:#x})"), self.0),
                }
            }
        }
    };
}
