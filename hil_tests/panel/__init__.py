"""The front panel of a virtual rig, outside the guest: a USB device of QEMU's, behind which hangs
the I2C plate.

The guest's stock kernel drives it (`i2c-tiny-usb`, `/dev/i2c-N`); what a person would see is
decoded from the levels of the pins by `appliance.simulated.front_panel`, which judges here as it
does in the tests of the driver.
"""
