/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A session with the daemon of a mount, for host code: what stands in homi_session.h, spoken over its socket. A program
 * that has a C++ compiler alone (nvcc, hipcc, g++) needs nothing else; the Rust library homi-client does the same.
 *
 * Every failure is a homi::failure, whose text says what, why and what to do.
 */
#ifndef HOMI_SESSION_CLIENT_H
#define HOMI_SESSION_CLIENT_H

#include "homi_session.h"
#include "homi_snapshot.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <vector>

namespace homi {

struct failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

[[noreturn]] inline void fail_by_errno(const std::string &what)
{
    throw failure("cannot " + what + ": " + std::strerror(errno));
}

/* A descriptor that is closed with this. */
class descriptor {
  public:
    descriptor() = default;
    explicit descriptor(int number) : number_(number) {}
    descriptor(descriptor &&other) noexcept : number_(other.number_) { other.number_ = -1; }
    descriptor &operator=(descriptor &&other) noexcept
    {
        std::swap(number_, other.number_);
        return *this;
    }
    ~descriptor()
    {
        if (number_ >= 0)
            close(number_);
    }
    int get() const { return number_; }

  private:
    int number_ = -1;
};

/* What a mapping is for: also to be read privately, since kernels before 6.7 let nobody share what is sealed. */
enum class access { read_sealed, read, read_write };

/* Memory that the daemon sees, too; unmapped with this. */
class shared_memory {
  public:
    shared_memory() = default;
    shared_memory(const descriptor &file, uint64_t length, access for_what = access::read_write) : length_(length)
    {
        struct stat status;
        if (fstat(file.get(), &status) != 0 || static_cast<uint64_t>(status.st_size) < length || length == 0)
            throw failure("the daemon's memory is shorter than it says");
        int const allowed = for_what == access::read_write ? PROT_READ | PROT_WRITE : PROT_READ;
        int const kind = for_what == access::read_sealed ? MAP_PRIVATE : MAP_SHARED;
        void *place = mmap(nullptr, length, allowed, kind, file.get(), 0);
        if (place == MAP_FAILED)
            fail_by_errno("map memory that is shared with the daemon");
        start_ = static_cast<uint8_t *>(place);
    }
    shared_memory(shared_memory &&other) noexcept : start_(other.start_), length_(other.length_)
    {
        other.start_ = nullptr;
    }
    shared_memory &operator=(shared_memory &&other) noexcept
    {
        std::swap(start_, other.start_);
        std::swap(length_, other.length_);
        return *this;
    }
    ~shared_memory()
    {
        if (start_ != nullptr)
            munmap(start_, length_);
    }
    uint8_t *start() const { return start_; }
    uint64_t length() const { return length_; }

  private:
    uint8_t *start_ = nullptr;
    uint64_t length_ = 0;
};

/* Queue pairs that the daemon gave, and where their parts lie. */
struct queue_memory {
    homi_queues places;
    shared_memory queues;
    shared_memory doorbells;
};

/* Registered memory, and the address that commands name it by. */
struct data_memory {
    uint64_t iova;
    shared_memory memory;
    /* HOMI_BUFFER_*: what memory commands write to. */
    uint32_t kind;
};

/* All files below a directory as one namespace, and the arena that says where in it each lies (snapshot.h). */
struct snapshot_memory {
    homi_snapshot_reply reply;
    /* Can only be read; it may be a little longer than `reply.length`, which is the arena's. */
    shared_memory arena;
};

/* The session lasts as long as this; what it gave must not be used afterwards. */
class session {
  public:
    /* With the daemon of the mount that an open file lies on. */
    explicit session(int file)
    {
        std::string const path = socket_of(file);
        socket_ = descriptor(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        if (socket_.get() < 0 || path.size() >= sizeof address.sun_path)
            throw failure("cannot name the daemon's socket " + path);
        std::memcpy(address.sun_path, path.c_str(), path.size());
        timeval const patience = {PATIENCE, 0};
        wait_for_answers(PATIENCE);
        setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if (connect(socket_.get(), reinterpret_cast<sockaddr *>(&address), sizeof address) != 0)
            fail_by_errno("reach the daemon at " + path);
        std::vector<descriptor> const files = ask(HOMI_KIND_HELLO, nullptr, 0, -1, &welcome_, sizeof welcome_, 2);
        if (welcome_.status_length < sizeof(homi_status) + welcome_.lease_slots * sizeof(uint64_t))
            throw failure("the daemon's answer makes no sense: lease words outside of the status page");
        status_ = shared_memory(files[0], welcome_.status_length, access::read);
    }

    const homi_welcome &allowed() const { return welcome_; }

    /* The status page, which can only be read: a homi_status, then the lease words. */
    const shared_memory &status() const { return status_; }

    /* Where the lease word of a file or snapshot is in the status page. */
    uint64_t lease_at(uint32_t slot) const
    {
        if (slot >= welcome_.lease_slots)
            throw failure("the daemon's answer makes no sense: there is no such lease word");
        return sizeof(homi_status) + slot * sizeof(uint64_t);
    }

    /* Whether commands name memory by PRPs: where the daemon knows no SGLs, or after use_prp, which is for tests. */
    bool by_prp() const { return use_prp_ || (welcome_.flags & HOMI_WELCOME_SGL) == 0; }
    void use_prp() { use_prp_ = true; }

    /* Makes an open file a namespace. */
    homi_file open(int file)
    {
        homi_handle const handle = handle_of(file);
        homi_file opened;
        ask(HOMI_KIND_OPEN, &handle, sizeof handle, -1, &opened, sizeof opened, 0);
        uint32_t const size = opened.block_size;
        if (size < 512 || (size & (size - 1)) != 0 || opened.blocks != opened.size / size + (opened.size % size != 0))
            throw failure("the daemon's answer makes no sense: a file of such blocks cannot be");
        return opened;
    }

    void close_file(const homi_file &opened) { close_namespace(opened.nsid); }

    /* Makes all files below an open directory one namespace. The daemon walks the tree meanwhile, some 100 000 files a
     * second. */
    snapshot_memory snapshot(int directory)
    {
        homi_handle const handle = handle_of(directory);
        snapshot_memory taken;
        wait_for_answers(3600);
        std::vector<descriptor> const files =
            ask(HOMI_KIND_SNAPSHOT, &handle, sizeof handle, -1, &taken.reply, sizeof taken.reply, 1);
        wait_for_answers(PATIENCE);
        uint32_t const size = taken.reply.block_size;
        if (taken.reply.length < sizeof(homi_snapshot_header) || (taken.reply.blocks > 0 && (size < 512 || (size & (size - 1)) != 0)))
            throw failure("the daemon's answer makes no sense: a snapshot of such blocks cannot be");
        taken.arena = shared_memory(files[0], taken.reply.length, access::read_sealed);
        return taken;
    }

    void close_snapshot(const snapshot_memory &taken)
    {
        if (taken.reply.blocks > 0)
            close_namespace(taken.reply.nsid);
    }

    /* New memory of at least `length` bytes, registered. */
    data_memory buffer(uint64_t length)
    {
        uint64_t const page = welcome_.page_size == 0 ? 4096 : welcome_.page_size;
        length = (length + page - 1) / page * page;
        descriptor file(static_cast<int>(syscall(SYS_memfd_create, "homi-buffer", MFD_CLOEXEC | MFD_ALLOW_SEALING)));
        if (file.get() < 0 || ftruncate(file.get(), static_cast<off_t>(length)) != 0 ||
            fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
            fail_by_errno("make memory to share");
        homi_buffer const answer = register_memory(file.get(), length);
        return {answer.iova, shared_memory(file, length), answer.kind};
    }

    /*
     * Registers the first `length` bytes of a dma-buf, memory of an accelerator for example, which stays the caller's. Where
     * the daemon's engine cannot write there it refuses (EOPNOTSUPP); then host memory is the way. `kind` says what commands
     * write to.
     */
    homi_buffer register_dma_buf(int dma_buf, uint64_t length) { return register_memory(dma_buf, length); }

    /* Gives registered memory back; answered when no command uses it. */
    void release(const homi_buffer &registered)
    {
        ask(HOMI_KIND_RELEASE, &registered, sizeof registered, -1, nullptr, 0, 0);
    }

    /* `count` queue pairs of `entries` entries each. */
    queue_memory queues(uint32_t count, uint32_t entries)
    {
        homi_queues_request const request = {count, entries};
        homi_queues p;
        std::vector<descriptor> files = ask(HOMI_KIND_QUEUES, &request, sizeof request, -1, &p, sizeof p, 2);
        bool const fits = p.count == count && p.entries == entries && count > 0 && within(p.submissions, entries * 64ull, p.stride) &&
                          within(p.completions, entries * 16ull, p.stride) && p.stride <= p.length / count &&
                          p.stride % 128 == 0 && p.doorbell_stride % 128 == 0 &&
                          bell_within(p.tail_doorbell, p) && bell_within(p.head_doorbell, p);
        if (!fits)
            throw failure("the daemon's answer makes no sense: queues outside of their memory");
        return {p, shared_memory(files[0], p.length), shared_memory(files[1], p.doorbells_length)};
    }

  private:
    /* Seconds. */
    static constexpr time_t PATIENCE = 30;

    void wait_for_answers(time_t seconds)
    {
        timeval const patience = {seconds, 0};
        setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    }

    static homi_handle handle_of(int file)
    {
        homi_handle handle;
        if (fgetxattr(file, "homi.handle", &handle, sizeof handle) != static_cast<ssize_t>(sizeof handle))
            fail_by_errno("get homi.handle of the file");
        return handle;
    }

    void close_namespace(uint32_t nsid)
    {
        homi_close_request const request = {nsid, 0};
        ask(HOMI_KIND_CLOSE, &request, sizeof request, -1, nullptr, 0, 0);
    }

    homi_buffer register_memory(int file, uint64_t length)
    {
        homi_buffer_request const request = {0, length};
        homi_buffer answer;
        ask(HOMI_KIND_BUFFER, &request, sizeof request, file, &answer, sizeof answer, 0);
        if (answer.length != length)
            throw failure("the daemon's answer makes no sense: it registered another length");
        return answer;
    }

    static bool within(uint64_t start, uint64_t length, uint64_t all)
    {
        return start % 128 == 0 && start <= all && length <= all - start;
    }

    static bool bell_within(uint64_t bell, const homi_queues &p)
    {
        if (p.doorbell_stride > (1u << 20) || bell > p.doorbells_length || bell % 128 != 0)
            return false;
        return bell + (p.count - 1) * p.doorbell_stride + 4 <= p.doorbells_length;
    }

    /* Where the daemon listens that serves the mount of an open file. */
    static std::string socket_of(int file)
    {
        std::ifstream about("/proc/self/fdinfo/" + std::to_string(file));
        std::string word, mount;
        while (about >> word)
            if (word == "mnt_id:")
                about >> mount;
        std::ifstream table("/proc/self/mountinfo");
        std::string line;
        while (std::getline(table, line)) {
            std::istringstream fields(line);
            std::string id, parent, device, root, point, kind;
            fields >> id >> parent >> device >> root >> point;
            if (id != mount)
                continue;
            while (fields >> word && word != "-")
                ;
            fields >> kind;
            point = unescaped(point);
            if (kind != "fuse.homifs")
                throw failure(point + " is a mount of type " + kind + ", not of fuse.homifs; mount it with homifs mount");
            std::string const link = point + "/.homi/socket";
            std::array<char, 4096> target;
            ssize_t const length = readlink(link.c_str(), target.data(), target.size());
            if (length < 0)
                throw failure("cannot read " + link + ": " + std::strerror(errno) + "; mount with -o clients=N");
            return std::string(target.data(), static_cast<size_t>(length));
        }
        throw failure("the mount of the file is not visible here (another mount namespace?)");
    }

    /* Spaces and the like stand as \040 in the mount table. */
    static std::string unescaped(const std::string &field)
    {
        std::string text;
        for (size_t at = 0; at < field.size(); at++) {
            if (field[at] == '\\' && at + 3 < field.size() && field[at + 1] >= '0' && field[at + 1] <= '3') {
                text += static_cast<char>((field[at + 1] - '0') * 64 + (field[at + 2] - '0') * 8 + (field[at + 3] - '0'));
                at += 3;
            } else {
                text += field[at];
            }
        }
        return text;
    }

    std::vector<descriptor> ask(uint16_t kind, const void *request, size_t length, int file, void *answer, size_t wanted,
                                size_t files)
    {
        homi_message header = {{'h', 'o', 'm', 'i'}, HOMI_SESSION_VERSION, kind,
                               static_cast<uint32_t>(sizeof(homi_message) + length), 0, ++last_};
        std::array<uint8_t, HOMI_MESSAGE_MAX> packet;
        std::memcpy(packet.data(), &header, sizeof header);
        if (length > 0)
            std::memcpy(packet.data() + sizeof header, request, length);
        alignas(cmsghdr) std::array<char, CMSG_SPACE(4 * sizeof(int))> control{};
        iovec part = {packet.data(), header.length};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        if (file >= 0) {
            message.msg_control = control.data();
            message.msg_controllen = CMSG_SPACE(sizeof(int));
            cmsghdr *c = CMSG_FIRSTHDR(&message);
            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN(sizeof(int));
            std::memcpy(CMSG_DATA(c), &file, sizeof file);
        }
        if (sendmsg(socket_.get(), &message, MSG_NOSIGNAL) < 0)
            fail_by_errno("send a request to the daemon");
        part = {packet.data(), packet.size()};
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        ssize_t const got = recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
        if (got < 0)
            fail_by_errno("get the daemon's answer");
        std::vector<descriptor> given;
        for (cmsghdr *c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c))
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
                for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= c->cmsg_len; at += sizeof(int)) {
                    int number;
                    std::memcpy(&number, CMSG_DATA(c) + at, sizeof number);
                    given.emplace_back(number);
                }
        size_t const all = static_cast<size_t>(got);
        if (all < sizeof header)
            throw failure("the daemon closed the connection");
        std::memcpy(&header, packet.data(), sizeof header);
        if (std::memcmp(header.magic, "homi", 4) != 0 || header.id != last_ || header.length != all)
            throw failure("the daemon's answer makes no sense: it is of another version, or to another request");
        if (header.error != 0)
            throw failure("the daemon refused: " +
                          std::string(packet.begin() + sizeof header, packet.begin() + static_cast<ssize_t>(all)) + " (" +
                          std::strerror(static_cast<int>(header.error)) + ")");
        if (all - sizeof header < wanted || given.size() < files)
            throw failure("the daemon's answer makes no sense: it is too short");
        if (wanted > 0)
            std::memcpy(answer, packet.data() + sizeof header, wanted);
        return given;
    }

    descriptor socket_;
    homi_welcome welcome_{};
    shared_memory status_;
    bool use_prp_ = false;
    uint64_t last_ = 0;
};

} // namespace homi

#endif
