import FileService
import Identity
import NFSTypes
import NIOCore

/// A client that never gives up: each operation is sent again, with the same xid, until it is answered.
final class Client: @unchecked Sendable {
    // Proof of Sendable: the simulator is one thread.
    static let registersPerClient = 3

    let number: Int
    private let svm: ObjectUUID
    /// The volume that it mounts.
    private let path: String
    private let address: ClientAddress
    private var generator: Generator
    private var nextXID: UInt32
    private var connection: ClientConnection?
    private var connectionNumber = 0
    private var root: [UInt8] = []
    private var own: [Int] = []
    private var nextName = 0
    /// What it waits for now.
    private var answer: ByteBuffer?
    private var isBroken = false
    private var waiter: Fiber?
    /// Operations that were answered.
    private(set) var answered: UInt64 = 0
    /// It has stopped, as it was told to.
    private(set) var hasStopped = false

    init(number: Int, svm: ObjectUUID, path: String, generator: Generator) {
        self.number = number
        self.svm = svm
        self.path = path
        self.generator = generator
        address = ClientAddress(rawValue: 0x0a00_0001 + UInt32(number))
        nextXID = UInt32(number) << 24
    }

    private var scheduler: Scheduler { simulation.scheduler }

    /// What it does until it is told to stop.
    func run() {
        var mounted = request({ NFSMessages.mount(xid: $0, path: self.path) })
        root = mounted.handle()
        for index in 0..<Self.registersPerClient {
            let name = "register-\(number)-\(index)"
            let register = simulation.registers.add(Register(name: name, svm: svm, isUnstable: index == 2))
            simulation.registers.made(register, handle: makeFile(name))
            own.append(register)
        }
        while !simulation.clientsShallStop {
            switch generator.below(10) {
            case 0..<4: write()
            case 4..<8:
                let known = simulation.registers.indices(of: svm)
                read(known[generator.below(known.count)])
            case 8: makeAndRemove()
            default: writeUnstable()
            }
            let isSlow = simulation.isSlow
            scheduler.sleep(isSlow ? 30_000_000_000 : generator.spread(1_000_000...400_000_000))
        }
        hasStopped = true
    }

    /// Reads every register once more.
    func readAll() { for index in simulation.registers.indices(of: svm) { read(index) } }

    // MARK: Operations

    private func write() {
        let index = own[generator.below(2)]
        let handle = simulation.registers.registers[index].handle
        let value = simulation.registers.beginWrite(index)
        // The size of a register never shrinks, so that no read finds the end of an older value.
        let bytes = RegisterChecker.bytes(of: value, count: index % 2 == 0 ? 512 : 12_288)
        _ = request({ NFSMessages.write(xid: $0, handle, bytes, isStable: true) })
        simulation.registers.endWrite(index, value)
    }

    private func writeUnstable() {
        let index = own[2]
        let handle = simulation.registers.registers[index].handle
        let value = simulation.registers.beginWrite(index)
        let bytes = RegisterChecker.bytes(of: value, count: 8_192)
        while true {
            var written = request({ NFSMessages.write(xid: $0, handle, bytes, isStable: false) })
            let before = written.verifier(afterWords: 2)
            scheduler.sleep(generator.spread(1_000_000...50_000_000))
            var committed = request({ NFSMessages.commit(xid: $0, handle) })
            // Another verifier: what was not committed may be lost.
            if committed.verifier(afterWords: 0) == before { break }
        }
        simulation.registers.endWrite(index, value)
    }

    private func read(_ index: Int) {
        let handle = simulation.registers.registers[index].handle
        guard !handle.isEmpty else { return }
        let oldest = simulation.registers.beginRead(index)
        var answer = request({ NFSMessages.read(xid: $0, handle, count: 16_384) })
        if let wrong = simulation.registers.endRead(index, oldest: oldest, answer.data()) {
            simulation.violation("client \(number): \(wrong)")
        }
    }

    private func makeAndRemove() {
        nextName += 1
        let name = "file-\(number)-\(nextName)"
        _ = create(name)
        _ = request({ NFSMessages.remove(xid: $0, name, in: self.root) })
    }

    /// Makes a file and gives its handle.
    private func makeFile(_ name: String) -> [UInt8] {
        var made = create(name)
        return made.createdHandle()
    }

    private func create(_ name: String) -> NFSMessages.Answer {
        request({ NFSMessages.create(xid: $0, name, in: self.root) })
    }

    // MARK: Asking

    /// Asks until there is an answer with status 0.
    ///
    /// Whatever is sent again was executed once at most, whichever daemons died meanwhile: their volumes know what they
    /// have answered. So no name that is made is there already, and none that is removed is gone.
    private func request(_ make: (UInt32) -> ByteBuffer) -> NFSMessages.Answer {
        while true {
            nextXID += 1
            let xid = nextXID
            let answer = exchange(make(xid), xid)
            switch NFSStatus(rawValue: answer.status) {
            case .ok:
                answered += 1
                return answer
            case .jukebox, .noSpace: scheduler.sleep(generator.spread(50_000_000...500_000_000))
            default:
                simulation.violation("client \(number): an operation was answered with status \(answer.status)")
                // The run is over.
                while true { scheduler.suspend() }
            }
        }
    }

    private func exchange(_ record: ByteBuffer, _ xid: UInt32) -> NFSMessages.Answer {
        while true {
            guard let connection = connect() else {
                scheduler.sleep(generator.spread(10_000_000...300_000_000))
                continue
            }
            answer = nil
            isBroken = false
            if !simulation.losesClientMessage() {
                scheduler.after(30_000 + generator.within(0...200_000)) {
                    if !connection.service.node.isIsolated { connection.receive(record) }
                }
            }
            wait(nanoseconds: generator.within(1_000_000_000...5_000_000_000))
            if let answer, let parsed = NFSMessages.Answer(answer, xid: xid) { return parsed }
            self.connection?.closeByClient()
            self.connection = nil
        }
    }

    private func connect() -> ClientConnection? {
        if let connection, !connection.isClosed { return connection }
        let services = simulation.services.filter {
            !$0.process.isDead && !$0.boundEndpoints.isEmpty && $0.file.svm == svm && !$0.node.isIsolated
        }
        guard !services.isEmpty else { return nil }
        // While both clusters have the address, either may be the one that the network leads to.
        let service = services[generator.below(services.count)]
        guard let term = service.servedTerm else { return nil }
        connectionNumber += 1
        let number = connectionNumber
        let made = ClientConnection(
            client: address,
            service: service,
            term: term,
            onAnswer: { [self] answer in
                guard !simulation.losesClientMessage(), !service.node.isIsolated else { return }
                scheduler.after(30_000 + generator.within(0...200_000)) { [self] in
                    guard number == connectionNumber else { return }
                    self.answer = answer
                    wake()
                }
            },
            onClose: { [self] in
                guard !service.node.isIsolated else { return }
                scheduler.after(30_000) { [self] in
                    guard number == connectionNumber else { return }
                    isBroken = true
                    wake()
                }
            }
        )
        service.accept(made)
        connection = made
        return made
    }

    private func wait(nanoseconds: UInt64) {
        let fiber = scheduler.fiber!
        waiter = fiber
        var isOver = false
        scheduler.after(nanoseconds) { [self] in if !isOver { wake() } }
        while answer == nil && !isBroken && waiter != nil { scheduler.suspend() }
        waiter = nil
        isOver = true
    }

    private func wake() {
        guard let fiber = waiter else { return }
        waiter = nil
        scheduler.wake(fiber)
    }
}
