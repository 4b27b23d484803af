"""python -m services.worker --data DIR [--local TYPE JSON]

Each process of the pool imports this module again (multiprocessing's spawn): what it does not need stays out.
"""

if __name__ == "__main__":
    from services.worker.running import main

    main()
