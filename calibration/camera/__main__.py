"""python -m calibration.camera"""

import sys

from calibration.camera.calibrate import main

if __name__ == "__main__":
    sys.exit(main())
