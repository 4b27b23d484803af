"""python -m tests.chaos.simulation SEED: run one world and tell its story; or many: --worlds N --first SEED."""

import argparse
import os
import sys
import time

CLOCK = time.perf_counter  # the worlds have another `time`


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="run this world and print its trace")
    parser.add_argument("--worlds", type=int, default=300)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--mutation", default=None, help="with this defence switched off (see mutations.py)")
    parser.add_argument("--all", action="store_true", help="do not stop at the first world that fails")
    args = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets decides the order of events
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.chaos.simulation", *sys.argv[1:]])

    from tests.chaos.simulation.mutations import MUTATIONS
    from tests.chaos.simulation.world import World

    mutation, faults_wanted = MUTATIONS[args.mutation] if args.mutation else (None, None)
    seeds = [args.seed] if args.seed is not None else range(args.first, args.first + args.worlds)
    started = CLOCK()
    failed: set[int] = set()
    faults = sent = steps = 0
    for count, seed in enumerate(seeds, 1):
        world = World(seed, mutation, faults_wanted)
        try:
            world.run()
        except AssertionError as e:
            failed.add(seed)
            if args.all:
                print(f"seed {seed}: {e}", flush=True)
            if not args.all and args.seed is None:
                print(world.report(e))
                again = f" --mutation {args.mutation}" if args.mutation else ""
                print(f"\nagain with: python -m tests.chaos.simulation {seed}{again}")
                print(f"failed after {count} worlds, {CLOCK() - started:.1f} s")
                return 1
            if args.seed is not None:
                print(world.report(e))
                return 1
        faults, sent, steps = faults + world.faults, sent + len(world.exchange.sent), steps + world.scheduler.steps
    seconds = CLOCK() - started
    if args.seed is not None:
        print("\n".join(world.lines))
    print(
        f"{count} worlds from seed {seeds[0]}: {len(failed)} failed; {faults} faults, {sent} frames sent, "
        f"{steps} steps in {seconds:.1f} s: {count / seconds * 60:.0f} worlds a minute"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
