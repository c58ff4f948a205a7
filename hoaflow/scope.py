# SPDX-License-Identifier: Apache-2.0
"""Say that a call concerns only the controller that gets it, not the others of its cluster."""

# Members set it on calls that they pass on, so that none goes round in circles. So do bridges, which tell every member
# themselves.
SCOPE = "Hoaflow-Scope"
MEMBER = "member"
THIS_MEMBER = {SCOPE: MEMBER}
# Names the member that a call is for, so that one at whose URL another member answers is noticed.
ADDRESSEE = "Hoaflow-Member"
