# SPDX-License-Identifier: Apache-2.0
"""The pages of the manual that are made from the programs themselves, so that they can't drift from them."""
