"""`python -m trt_mpq` is `trt-mpq`."""

from trt_mpq.cli import main

if __name__ == "__main__":
    main()
