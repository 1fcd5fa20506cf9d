"""python -m calibration.smoothing"""

import sys

from calibration.smoothing.choose import main

if __name__ == "__main__":
    sys.exit(main())
