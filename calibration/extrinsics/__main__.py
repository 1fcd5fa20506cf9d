"""python -m calibration.extrinsics"""

import sys

from calibration.extrinsics.solve import main

if __name__ == "__main__":
    sys.exit(main())
