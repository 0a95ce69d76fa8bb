# A data loader: processes read records of files that a writer appends to meanwhile, by read(2), mmap and NumPy where it
# is installed. Every record that was announced must be there and whole, and none may be of another file.
# shellcheck shell=bash disable=SC2034,SC2154,SC2164
needs python3
said=$(python3 "$here/loader.py" "$MOUNT" "$SECONDS_LONG")
unmount_volume
mount_volume
python3 "$here/loader.py" --verify "$MOUNT"
found=$said
