/*
 * The point of no return of a migrate, for the model checker spin: `make model`.
 *
 * Two durable records (source, destination), the orchestrator on the destination, the source's management with its
 * timers, the gates of both sides, and a network between them. Each piece names the Swift function that it models.
 * A statement, or an `atomic`, is what the code does without a suspension in between; everything else interleaves.
 *
 * Faults, FAULTS of them in any mixture at any moment: either daemon is killed and started again; the orchestrator
 * stops waiting for an answer, and the request then is lost, was executed and only its answer is lost, or is executed
 * at any later moment (also after a restart of the source, also beside the request that repeats it); draining fails;
 * the destination's own database fails once. Both timers of the source may fire at any moment after their start, and
 * the destination's timer at the moment that it is asked; none of that counts as a fault.
 *
 *   never both    neither side's gate is open while the other's is (invariant 1)
 *   nothing lost  the destination opens only on the final snapshot of a hold that was not broken since (invariant 2)
 *   converged     when nothing more can happen, either the destination serves and the source's record is past the
 *                 point of no return, or the source serves and its record is as before the cutover (invariant 5)
 *   settles       and that moment is always reached, under weak fairness
 *
 * MUTATION=n breaks the protocol on purpose; Models/check shows that each is caught.
 */

#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2
#endif
#ifndef MUTATION
#define MUTATION 0
#endif
#define PONR_ON_THE_DESTINATION_FIRST 1
#define REOPENED_BEFORE_RECORDED 2
#define TIMER_WITHOUT_COMPARE_AND_SET 3
#define UNDO_PAST_THE_POINT_STICKS 4
#define REOPENED_WITHOUT_ATTEMPT 5
#define LATE_REQUESTS_FIND_THE_DOOR_OPEN 6

/* Requests in flight: one that is waited for, and late ones. */
#define CARRIERS 2
#define NOBODY 255

mtype:source = { prepared, locked, commit, recovered, ponr };
mtype:request = { lockRequest, armRequest, holdRequest, recoverRequest, unlockRequest, ponrRequest, statusRequest, releaseRequest };
mtype:answer = { none, done, refused, fenced, unreachable };
mtype:phase = { cutover, undoing, takeover, complete, failed };

byte faults = FAULTS;

/* ---- The source's record (SourceRecord), durable. */
mtype:source sourceState = prepared;
byte sourceAttempt = 0;
byte sourceEpoch = 1;

/* ---- What the source's daemon has in memory. */
bool sourceUp = true;
bool sourceOpen = true;     /* the gate is open and the addresses are bound */
byte heldReply = 0;         /* MigrateSource.heldReplies: the attempt that `hold` was answered for */
byte gateAttempt = 0;       /* MigrateSource.gateAttempts: the newest attempt that held the gate */
byte commitTimer = 0;       /* attempt that a commit timer runs for */
byte lockTimer = 0;
bool running[3];            /* carriers 0 and 1 and the commit timer: something of theirs is being executed */
bool killed[3];             /* and the daemon that did it is dead */
#define TIMER 2
byte cleanSnapshot = 0;     /* attempt whose final snapshot holds everything that was ever answered */

/* ---- The destination's record (DestinationRecord), durable. */
mtype:phase phase = cutover;
byte attempt = 1;
byte epoch = 1;
bool commitStarted = false; /* the saga's log has the start of the step `commit` */
bool isCommitting = false;
bool isPast = false;

/* ---- What the destination's daemon has in memory. */
bool destinationUp = true;
bool destinationOpen = false;
bool isFresh = false;       /* Memory.preparedAttempt and synchronizedAttempt are this attempt's */

/* ---- The network: carriers bring requests to the source, and the answer back if somebody waits for it. */
typedef Carrier { bool busy; mtype:request what; byte attempt; byte epoch };
Carrier carriers[CARRIERS];
byte awaited = NOBODY;
mtype:answer answer = none;
mtype:source answeredState;
byte answeredAttempt;

inline neverBoth() { assert(!(sourceOpen && destinationOpen)) }

/* ControllerSourceStorage.reopenGate, as MigrateSource.reopenGate(of:attempt:) allows it. */
inline reopen(n) {
    if
    :: n >= gateAttempt || MUTATION == REOPENED_WITHOUT_ATTEMPT -> sourceOpen = true; cleanSnapshot = 0; neverBoth()
    :: else
    fi
}

/* SourceRecord.after(.recover): nothing to do, given up, or not legal. An attempt that is only locked is given up too,
   so that a late `arm` finds it gone. */
inline recoverRecord(n, isLegal) {
    isLegal = true;
    if
    :: sourceState == locked && sourceAttempt == n && MUTATION != LATE_REQUESTS_FIND_THE_DOOR_OPEN -> sourceState = recovered
    :: sourceState == commit && sourceAttempt == n -> sourceState = recovered; heldReply = 0
    :: sourceState == commit && sourceAttempt != n -> isLegal = false
    :: else
    fi
}

/* SourceRecord.fenced(by:) */
#define isFenced(e) (e < sourceEpoch)
inline raiseEpoch(newEpoch) { if :: newEpoch > sourceEpoch -> sourceEpoch = newEpoch :: else fi }

/* Forgets what is over, so that states that differ in nothing else are the same. */
inline clear(me) {
    carriers[me].busy = false; carriers[me].what = statusRequest; carriers[me].attempt = 0; carriers[me].epoch = 0;
    running[me] = false; killed[me] = false;
    n = 0; isLegal = false; seen = 0; seenState = prepared
}

inline reply(me, a) {
    if
    :: awaited == me -> answer = a; awaited = NOBODY;
        if
        :: a == done && (carriers[me].what == statusRequest || carriers[me].what == recoverRequest) ->
            answeredState = sourceState; answeredAttempt = sourceAttempt
        :: else
        fi
    :: else
    fi;
    clear(me)
}

/* SourceCalls: each request, from its arrival to its answer. */
proctype Source(byte me) {
    byte n; bool isLegal; byte seen; mtype:source seenState;
idle:
    atomic {
        if
        :: carriers[me].busy && sourceUp -> n = carriers[me].attempt; running[me] = true
        :: carriers[me].busy && awaited != me ->
            /* A request that nobody waits for any more may be lost for good. */
            clear(me);
            goto idle
        fi
    };
    {
        atomic { /* current(call): the epoch is checked and remembered in one compare-and-set. */
            if
            :: isFenced(carriers[me].epoch) -> reply(me, fenced); goto idle
            :: else -> raiseEpoch(carriers[me].epoch)
            fi;
            seenState = sourceState; seen = sourceAttempt;
            if
            :: carriers[me].what == lockRequest -> goto doLock
            :: carriers[me].what == armRequest -> goto doArm
            :: carriers[me].what == holdRequest -> goto doHold
            :: carriers[me].what == recoverRequest -> goto doRecover
            :: carriers[me].what == unlockRequest -> goto doUnlock
            :: carriers[me].what == ponrRequest -> goto doPonr
            :: carriers[me].what == statusRequest -> reply(me, done); goto idle
            :: carriers[me].what == releaseRequest -> goto doRelease
            fi
        };
doLock: /* lock: after(.lock), then the timer of the pre-commit. */
        atomic {
            if
            :: isFenced(carriers[me].epoch) -> reply(me, fenced)
            :: !isFenced(carriers[me].epoch) && sourceState == locked && sourceAttempt == n -> reply(me, done)
            :: !isFenced(carriers[me].epoch) && sourceState == prepared && n > sourceAttempt ->
                sourceState = locked; sourceAttempt = n; lockTimer = n; reply(me, done)
            :: else -> reply(me, refused)
            fi;
            goto idle
        };
doArm: /* arm: the timer starts before the record is written. */
        commitTimer = n;
        atomic {
            if
            :: isFenced(carriers[me].epoch) -> reply(me, fenced)
            :: !isFenced(carriers[me].epoch) && sourceAttempt == n && sourceState == commit -> reply(me, done)
            :: !isFenced(carriers[me].epoch) && sourceAttempt == n && sourceState == locked ->
                sourceState = commit; reply(me, done)
            :: else -> reply(me, refused)
            fi;
            goto idle
        };
doHold: /* hold: a repeated request gets the answer again; then requireCommit. */
        atomic {
            if
            :: heldReply == n -> reply(me, done); goto idle
            :: heldReply != n && !(seenState == commit && seen == n) -> reply(me, refused); goto idle
            :: else
            fi
        };
        atomic { /* MigrateSource.holdGate(of:attempt:drainMilliseconds:), then SourceGroup.holdGate */
            if
            :: n < gateAttempt && MUTATION != REOPENED_WITHOUT_ATTEMPT -> reply(me, refused); goto idle
            :: else -> gateAttempt = (n > gateAttempt -> n : gateAttempt); sourceOpen = false
            fi
        };
        atomic { /* The record is read again: the timer may have been faster. */
            if
            :: sourceState == commit && sourceAttempt == n
            :: else -> goto holdFailed
            fi
        };
        atomic { /* What was executed has not been drained in time. */
            if
            :: true
            :: faults > 0 -> faults--; goto holdFailed
            fi
        };
        atomic { /* seal: final when nothing was let in since the hold. */
            if
            :: !sourceOpen -> cleanSnapshot = (n > cleanSnapshot -> n : cleanSnapshot)
            :: else
            fi
        };
        atomic { heldReply = (n > heldReply -> n : heldReply); reply(me, done); goto idle };
holdFailed: /* the catch of hold: give(up:), then the gate. */
        atomic {
            recoverRecord(n, isLegal);
            if
            :: !isLegal -> reply(me, refused); goto idle
            :: else -> seenState = sourceState
            fi
        };
        atomic {
            if
            :: seenState != ponr && (seenState == recovered || MUTATION != REOPENED_WITHOUT_ATTEMPT) -> reopen(n)
            :: else
            fi;
            reply(me, refused); goto idle
        };
doRecover: /* recover: give(up:), then the gate. */
        atomic {
            recoverRecord(n, isLegal);
            if
            :: !isLegal -> reply(me, refused); goto idle
            :: else -> seenState = sourceState; seen = sourceAttempt
            fi
        };
        atomic {
            if
            :: seenState == recovered -> reopen(seen)
            :: else
            fi;
            reply(me, done); goto idle
        };
doUnlock: /* unlock: the gate first, then after(.unlock). */
        atomic {
            if
            :: seenState == recovered -> reopen(seen)
            :: else
            fi
        };
        atomic {
            if
            :: isFenced(carriers[me].epoch) -> reply(me, fenced); goto idle
            :: else
            fi;
            if
            :: sourceState == ponr || sourceState == commit || sourceAttempt > n -> reply(me, refused)
            :: sourceState == prepared && sourceAttempt <= n ->
                /* The attempt is remembered, so that a late `lock` of it is refused. */
                sourceAttempt = (MUTATION == LATE_REQUESTS_FIND_THE_DOOR_OPEN -> sourceAttempt : n);
                reply(me, done)
            :: (sourceState == locked || sourceState == recovered) && sourceAttempt <= n ->
                sourceState = prepared; sourceAttempt = n; reply(me, done)
            fi;
            goto idle
        };
doPonr: /* pointOfNoReturn: a commit that this daemon does not hold is refused; then after(.pointOfNoReturn). */
        atomic {
            if
            :: seenState == commit && heldReply != n -> reply(me, refused); goto idle
            :: else
            fi
        };
        atomic {
            if
            :: isFenced(carriers[me].epoch) -> reply(me, fenced)
            :: !isFenced(carriers[me].epoch) && sourceAttempt == n && (sourceState == commit || sourceState == ponr) ->
                sourceState = ponr; reply(me, done)
            :: else -> reply(me, refused)
            fi;
            goto idle
        };
doRelease: /* releaseInterfaces */
        atomic {
            if
            :: seenState == ponr -> sourceOpen = false; reply(me, done)
            :: else -> reply(me, refused)
            fi;
            goto idle
        }
    } unless { atomic {
        killed[me] -> /* The daemon that was executing this has died. */
        if
        :: awaited == me -> answer = unreachable; awaited = NOBODY
        :: else
        fi;
        clear(me)
    } };
    goto idle
}

inline timerEnds() { n = 0; isLegal = false; running[TIMER] = false; killed[TIMER] = false }

/* MigrateSource.expire: the commit timer. */
proctype CommitTimer() {
    byte n; bool isLegal;
wait:
    atomic { sourceUp && commitTimer > 0 -> n = commitTimer; commitTimer = 0; running[TIMER] = true };
    {
        atomic { /* The timer was faster than the write that arms the commit: wait for it. */
            (sourceState != locked || sourceAttempt != n) ->
            if
            :: sourceAttempt == n && (sourceState == commit || sourceState == recovered)
            :: else -> timerEnds(); goto wait
            fi
        };
        if
        :: MUTATION == REOPENED_BEFORE_RECORDED -> atomic { reopen(n) }
        :: MUTATION != REOPENED_BEFORE_RECORDED
        fi;
        atomic {
            if
            :: MUTATION == TIMER_WITHOUT_COMPARE_AND_SET -> sourceState = recovered; heldReply = 0
            :: else ->
                recoverRecord(n, isLegal);
                if
                :: isLegal && sourceState == recovered
                :: else -> timerEnds(); goto wait
                fi
            fi
        };
        atomic { reopen(n); timerEnds() }
    } unless { atomic { killed[TIMER] -> timerEnds() } };
    goto wait
}

/* MigrateSource.expireLock: the timer of the pre-commit. It may also fire after the end of everything. */
proctype LockTimer() {
wait:
    atomic {
        sourceUp && lockTimer > 0 ->
        if
        :: sourceState == locked && sourceAttempt == lockTimer -> sourceState = recovered
        :: else
        fi;
        lockTimer = 0
    };
    goto wait
}

/* The death of the source's daemon, and what the next one does before it serves: settleAfterRestart. */
proctype SourceDaemon() {
alive:
    atomic {
        faults > 0 && phase != complete && phase != failed -> faults--;
        sourceUp = false; sourceOpen = false; heldReply = 0; gateAttempt = 0; commitTimer = 0; lockTimer = 0;
        killed[0] = running[0]; killed[1] = running[1]; killed[TIMER] = running[TIMER]
    };
    atomic {
        if
        :: sourceState == commit -> sourceState = recovered
        :: else
        fi;
        if
        :: sourceState == locked -> lockTimer = sourceAttempt /* rearmLock */
        :: else
        fi;
        if
        :: sourceState != ponr -> sourceOpen = true; cleanSnapshot = 0
        :: else
        fi;
        sourceUp = true;
        neverBoth()
    };
    goto alive
}

/* Migration.ask: one request, one answer, or no answer. */
inline ask(request) {
    atomic {
        answer = none; answeredState = prepared; answeredAttempt = 0;
        if
        :: !sourceUp -> answer = unreachable
        :: sourceUp && !carriers[0].busy -> awaited = 0
        :: sourceUp && carriers[0].busy && !carriers[1].busy -> awaited = 1
        fi;
        if
        :: awaited != NOBODY ->
            carriers[awaited].what = request;
            carriers[awaited].attempt = attempt;
            carriers[awaited].epoch = epoch;
            carriers[awaited].busy = true
        :: else
        fi
    };
    atomic {
        if
        :: answer != none
        :: awaited != NOBODY && faults > 0 -> faults--; awaited = NOBODY; answer = unreachable
        fi
    }
}

/* Migration.askForEver. It does not spin on a source that is down: its start is always possible. */
inline askForEver(request) {
    do
    :: ask(request);
        if
        :: answer == unreachable -> sourceUp
        :: else -> break
        fi
    od
}

/* Migration.storage.openGate on the destination. */
inline serve() {
    atomic {
        destinationOpen = true;
        neverBoth();
        assert(cleanSnapshot == attempt)
    }
}

/* Orchestrator and CutoverPhase, CommitWindow, TakeoverPhase. */
proctype Destination() {
    bool isResumed = false;
drive:
    {
        do
        :: phase == cutover && !commitStarted ->
            /* CutoverPhase: lock (askAgain), prepare, synchronize. */
            ask(lockRequest);
            if
            :: answer == done
            :: else -> goto undo
            fi;
            /* After a crash the saga goes on behind what its log has, and that may be gone. */
            if
            :: isFresh = true
            :: isResumed
            fi;
            commitStarted = true
        :: phase == cutover && commitStarted ->
            if
            :: isResumed -> /* the step's isDone */
                askForEver(statusRequest);
                if
                :: answer == done && answeredState == ponr && answeredAttempt == attempt -> phase = takeover; goto next
                :: else
                fi
            :: else
            fi;
            isCommitting = true;
            askForEver(statusRequest); /* requireFresh */
            if
            :: answer == done && isFresh && answeredState == locked && answeredAttempt == attempt
            :: else -> goto undo
            fi;
            ask(armRequest);
            if :: answer == done :: else -> goto undo fi;
            ask(holdRequest);
            if :: answer == done :: else -> goto undo fi;
            /* verify, import, promote; requireTimeLeft */
            if
            :: true
            :: goto undo
            fi;
            if
            :: MUTATION == PONR_ON_THE_DESTINATION_FIRST -> isPast = true; serve()
            :: MUTATION != PONR_ON_THE_DESTINATION_FIRST
            fi;
            do /* pointOfNoReturn: askForEver; the destination's own database may fail in between. */
            :: ask(ponrRequest);
                if
                :: answer == unreachable -> sourceUp
                :: answer == done -> break
                :: answer == refused || answer == fenced -> goto undo
                fi
            :: atomic { faults > 0 -> faults--; goto undo }
            od;
            /* serveAtOnce; its failure leaves the rest to the takeover, or, when the write after it fails, to the undo. */
            if
            :: isPast = true;
                ask(releaseRequest);
                serve();
                phase = takeover
            :: atomic { faults > 0 -> faults--; goto undo }
            :: phase = takeover
            fi
        :: phase == undoing ->
undo:       phase = undoing;
            isFresh = false;
            if
            :: isCommitting ->
                askForEver(recoverRequest);
                if
                :: answer == done && answeredState == ponr ->
                    if
                    :: MUTATION == UNDO_PAST_THE_POINT_STICKS -> phase = failed
                    :: else -> assert(answeredAttempt == attempt); phase = takeover
                    fi;
                    goto next
                :: answer == done && answeredState != ponr
                :: answer == refused || answer == fenced -> phase = failed; goto next
                fi
            :: else
            fi;
            askForEver(unlockRequest);
            if
            :: answer == refused || answer == fenced -> phase = failed
            :: answer == done ->
                atomic {
                    if
                    :: attempt < ATTEMPTS -> attempt++; phase = cutover
                    :: else -> phase = failed
                    fi;
                    commitStarted = false; isCommitting = false; isResumed = false
                }
            fi
        :: phase == takeover -> /* TakeoverPhase: nothing leads back. */
            isPast = true;
            ask(releaseRequest);
            serve();
            phase = complete
        :: phase == complete || phase == failed -> goto end
next:       skip
        od
    } unless { !destinationUp };
    goto restart;
end:
    do /* Still serving, and still mortal. */
    :: !destinationUp -> break
    od;
restart:
    atomic { /* Orchestrator.resumeAll: a new epoch before anything else. */
        awaited = NOBODY; answer = none; isFresh = false; isResumed = true;
        if
        :: phase == complete || phase == failed
        :: else -> epoch++
        fi;
        destinationUp = true;
        /* The gate after a restart: as the record allows. */
        if
        :: phase == complete -> destinationOpen = true; neverBoth()
        :: else
        fi
    };
    goto drive
}

/* The death of the destination's daemon. */
proctype DestinationDaemon() {
    do
    :: atomic { faults > 0 && destinationUp -> faults--; destinationUp = false; destinationOpen = false }
    od
}

#define isMoved (phase == complete && destinationOpen && isPast && sourceState == ponr && !sourceOpen)
#define isStayed (phase == failed && sourceOpen && !destinationOpen && sourceState == prepared && !isPast)
#define isConverged (isMoved || isStayed)

/* When nothing else can happen, both sides must agree. */
proctype Observer() {
    do
    :: timeout -> assert(isConverged); break
    od
}

init {
    atomic {
        run Destination();
        run Source(0);
        run Source(1);
        run CommitTimer();
        run LockTimer();
        run SourceDaemon();
        run DestinationDaemon();
        run Observer()
    }
}

#ifdef LIVENESS
ltl settles { <>[] isConverged }
#endif
