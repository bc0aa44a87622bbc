import Glibc

/// A child process that runs some seeds, and the pipe from it.
struct Child {
    private let seeds: SeedRange
    private let process: pid_t
    private let pipe: CInt
    private var buffer: [UInt8] = []
    private var next: UInt64
    private var isDone = false

    /// Starts it: this program again.
    init(_ seeds: SeedRange, nodes: Int, defect: String?) {
        self.seeds = seeds
        next = seeds.first
        var ends: [CInt] = [0, 0]
        guard Glibc.pipe(&ends) == 0 else { fatalError("pipe: \(String(cString: strerror(errno)))") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
        defer { posix_spawn_file_actions_destroy(&actions) }
        var arguments = ["godwit-sim", "--seeds", seeds.text, "--nodes", "\(nodes)", "--worker"]
        if let defect { arguments += ["--defect", defect] }
        var pointers = arguments.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        var process = pid_t()
        let status = posix_spawn(&process, "/proc/self/exe", &actions, nil, &pointers, environ)
        guard status == 0 else { fatalError("posix_spawn: \(String(cString: strerror(status)))") }
        close(ends[1])
        self.process = process
        pipe = ends[0]
    }

    /// The children that have said something or ended; waits for one.
    static func readable(_ children: [Child]) -> [Int] {
        var polled = children.map { pollfd(fd: $0.pipe, events: Int16(POLLIN), revents: 0) }
        poll(&polled, nfds_t(polled.count), -1)
        return polled.indices.filter { polled[$0].revents != 0 }
    }

    /// Takes what it said; false at its end.
    mutating func read(into summary: inout Summary) -> Bool {
        var part = [UInt8](repeating: 0, count: 16_384)
        let count = Glibc.read(pipe, &part, part.count)
        guard count > 0 else { return false }
        buffer += part[..<count]
        while let end = buffer.firstIndex(of: 10) {
            if let line = ResultLine(text: Substring(String(decoding: buffer[..<end], as: UTF8.self))) {
                summary.add(line)
                isDone = line.seed == seeds.last
                next = line.seed &+ 1
            }
            buffer.removeSubrange(...end)
        }
        return true
    }

    /// Ends it: nobody wants the rest.
    func end() {
        kill(process, SIGKILL)
        close(pipe)
        var status: CInt = 0
        waitpid(process, &status, 0)
    }

    /// Takes its status; the seeds that are left when it ended at one that it did not finish, which has failed.
    func finish(into summary: inout Summary) -> SeedRange? {
        close(pipe)
        var status: CInt = 0
        waitpid(process, &status, 0)
        guard !isDone else { return nil }
        summary.add(ResultLine(seed: next, "the simulator's process ended with status \(status): run the seed alone"))
        return next == seeds.last ? nil : SeedRange(first: next + 1, last: seeds.last)
    }
}

extension ResultLine {
    /// The result of a seed that did not come to an end.
    fileprivate init(seed: UInt64, _ violation: String) {
        self.init(text: "\(seed)\t0\t0\t0\t0\t0\t0")!
        violations = [violation]
    }
}
