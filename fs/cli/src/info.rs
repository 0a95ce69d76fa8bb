//! `homifs info`: a volume's own description, the partitions of a device that has them, or who serves a file of a mount.

use std::path::Path;

use extents_volume::PartitionTable;
use homifs_core::{Homifs, Special};
use homifs_fuse::mount_table::Entry;
use serde_json::{Value, json};

use crate::arguments::{Format, Info};
use crate::failure::Failure;
use crate::volume::{self, Sharing};
use crate::{Result, mounts, output, request};

pub(crate) fn run(arguments: &Info) -> Result {
    let path = Path::new(&arguments.spec);
    let told = match path {
        _ if path.is_dir() => of_mount(path)?,
        _ if path.is_file() => match request::mounted(path)? {
            Some(file) => request::about(&file, "file", path)?,
            None => of_device(arguments)?,
        },
        _ => of_device(arguments)?,
    };
    match arguments.output.output {
        Format::Json => println!("{told:#}"),
        Format::Table => {
            println!("{}", if told["partitions"].is_array() { partitions(&told) } else { facts(&told) });
        }
    }
    Ok(())
}

/// What the daemon of a mount tells in the file `volume`.
fn of_mount(path: &Path) -> Result<Value> {
    let shown = path.display();
    let mount = mounts::holding(path).map_err(|error| Failure::io(&shown, &error))?;
    let Some(mount) = mount.filter(Entry::is_homifs) else {
        return Err(Failure::plain(format!("{shown} is not on a homifs mount; name a device or a mount")));
    };
    let file = mount.mountpoint.join(".homi/volume");
    let text = std::fs::read(&file).map_err(|error| Failure::io(file.display(), &error))?;
    Ok(serde_json::from_slice(&text)?)
}

fn of_device(arguments: &Info) -> Result<Value> {
    let spec = &arguments.spec;
    let options = arguments.place.options()?;
    let device = volume::open_device(spec, &options, Sharing::Tolerant)?;
    let size = device.info().size;
    match volume::open_on(device, spec, &options, Sharing::Tolerant)? {
        Ok(parts) => {
            let homifs = Homifs::new(parts, spec.clone(), options);
            let failed = |error| Failure::file(spec, &error);
            let handle = homifs.open(Special::Volume.node(), false).map_err(failed)?.handle;
            let text = homifs.read(handle, 0, 1 << 20, <[u8]>::to_vec).map_err(failed)?;
            Ok(serde_json::from_slice(&text)?)
        }
        // Somebody who names a whole disk wants to know what is on it.
        Err(error) => match error.table() {
            Some(table) if options.partition.is_none() => Ok(table_json(spec, size, table)),
            _ => Err(Failure::volume(spec, &error)),
        },
    }
}

fn table_json(spec: &str, size: u64, table: &PartitionTable) -> Value {
    let partitions = table.partitions.iter().map(|partition| {
        json!({
            "number": partition.number,
            "start_bytes": partition.start,
            "size_bytes": partition.size,
            "type": partition.kind,
            "name": partition.name,
            "holds": partition.contents.name(),
        })
    });
    json!({
        "version": 1,
        "source": spec,
        "device_size_bytes": size,
        "scheme": table.scheme.to_string(),
        "sector_size_bytes": table.sector_size,
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

fn partitions(told: &Value) -> String {
    let mut table = output::table();
    table.set_header(["N", "START", "SIZE", "TYPE", "HOLDS", "NAME"]);
    for partition in told["partitions"].as_array().into_iter().flatten() {
        let keys = ["number", "start_bytes", "size_bytes", "type", "holds", "name"];
        table.add_row(keys.map(|key| plain(&partition[key])));
    }
    format!(
        "{} has a {} partition table; give a volume's number with --partition.\n{}",
        plain(&told["source"]),
        plain(&told["scheme"]),
        table.trim_fmt()
    )
}

fn facts(told: &Value) -> String {
    let mut table = output::table();
    for (key, value) in told.as_object().into_iter().flatten() {
        if key != "version" && key != "ok" {
            table.add_row([key.replace('_', " "), plain(value)]);
        }
    }
    table.trim_fmt()
}

/// A value as text for a person.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => output::name(text.as_bytes()),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
