//! Real volumes, made by e2fsprogs, filled by the kernel, and read by both: every name, stat, link, attribute,
//! byte and extent must agree.

mod compare;
mod fiemap;
mod image;
mod populate;

mod damage;
mod debugfs;
mod encrypted;
mod formats;
mod index;
mod recovery;
