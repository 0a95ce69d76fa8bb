//! The program as people use it: on real volumes, with good and bad input.

mod mounting;
mod unmounted;
mod volumes;
