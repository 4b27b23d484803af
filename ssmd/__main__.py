"""python -m ssmd"""

from ssmd.cli import main

if __name__ == "__main__":
    main()
