"""A new wave before it is refreshed: registering its files, drafting its crosswalk, listing what is left to decide.

Belongs here: what a person does between a delivery and `cmhs refresh`. Does not: any step of the refresh; nothing here
writes to a warehouse or to a release.
"""
